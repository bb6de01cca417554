-- Rows that are stored twice, not finite, or no probability; expected shortfall below the value at risk; value at risk
-- or expected shortfall that falls as the level does.
WITH single AS (
    SELECT model, checkpoint, symbol, origin, step, measure, level, min(value) AS value, count(*) AS times
    FROM forecast_risk GROUP BY ALL
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
