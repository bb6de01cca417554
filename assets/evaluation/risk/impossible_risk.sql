-- Rows that are stored twice, not finite, or no probability; expected shortfall below the value at risk; value at risk
-- or expected shortfall that falls as the level does. Forecasts with such rows are found by hashes first, and then examined:
-- columns of text make groups of all rows three times as dear.
WITH hashed AS (SELECT *, hash(model, checkpoint, symbol, origin, step) AS cell FROM forecast_risk),
suspects AS (
    SELECT cell FROM hashed
    WHERE NOT isfinite(value) OR measure IN ('drawdown', 'touch') AND value NOT BETWEEN 0 AND 1
    UNION
    SELECT cell FROM (SELECT cell, hash(cell, measure, level) AS row FROM hashed) GROUP BY cell, row HAVING count(*) > 1
    UNION
    SELECT cell FROM hashed WHERE measure IN ('var', 'es') GROUP BY cell, level
    HAVING min(value) FILTER (measure = 'es') < max(value) FILTER (measure = 'var')
    UNION
    SELECT cell FROM hashed WHERE measure IN ('var', 'es')
    QUALIFY value < lag(value) OVER (PARTITION BY cell, measure = 'es' ORDER BY level DESC)
),
single AS (
    SELECT model, checkpoint, symbol, origin, step, measure, level, min(value) AS value, count(*) AS times
    FROM hashed SEMI JOIN suspects USING (cell) GROUP BY ALL
),
ordered AS (
    SELECT *,
           lag(value) OVER (PARTITION BY model, checkpoint, symbol, origin, step, measure ORDER BY level DESC) AS above,
           max(value) FILTER (measure = 'var') OVER (PARTITION BY model, checkpoint, symbol, origin, step, level) AS var
    FROM single
)
SELECT model, checkpoint, symbol, origin, step, measure, level, value,
       CASE WHEN times > 1 THEN 'stored twice'
            WHEN NOT isfinite(value) THEN 'not finite'
            WHEN measure IN ('drawdown', 'touch') THEN 'no probability'
            WHEN measure = 'es' AND value < var THEN 'expected shortfall below the value at risk'
            ELSE 'smaller than at a higher level' END AS problem
FROM ordered
WHERE times > 1 OR NOT isfinite(value)
   OR measure IN ('drawdown', 'touch') AND value NOT BETWEEN 0 AND 1
   OR measure = 'es' AND value < var
   OR measure IN ('var', 'es') AND value < above
ORDER BY ALL
LIMIT 1000
