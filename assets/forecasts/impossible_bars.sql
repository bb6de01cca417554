-- Quantiles of one level that together are no valid bar.
WITH own AS (
    SELECT model, checkpoint, symbol, origin, step, level, field, value FROM forecast_quantiles WHERE {range}
)
SELECT DISTINCT model, checkpoint, symbol, origin, step, level FROM own
WHERE field IN ('open', 'high', 'low', 'close') AND value <= 0 OR field IN ('volume', 'amount', 'range') AND value < 0
UNION
-- Most models have one price alone, and are not grouped.
SELECT model, checkpoint, symbol, origin, step, level FROM (
    SELECT model, checkpoint, symbol, origin, step, level,
           max(value) FILTER (field = 'open') AS open, max(value) FILTER (field = 'high') AS high,
           max(value) FILTER (field = 'low') AS low, max(value) FILTER (field = 'close') AS close
    FROM own SEMI JOIN (SELECT DISTINCT model, checkpoint FROM own WHERE field IN ('high', 'low'))
        USING (model, checkpoint)
    GROUP BY ALL
)
WHERE low > least(open, close) OR high < greatest(open, close)
