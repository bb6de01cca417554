-- Forecasts with missing or duplicate quantiles, and quantiles without a row in `forecasts`.
WITH counted AS (
    SELECT model, checkpoint, symbol, origin, count(*) AS n,
           count(DISTINCT step) * count(DISTINCT field) * count(DISTINCT level) AS expected
    FROM forecast_quantiles WHERE {range} GROUP BY ALL
)
SELECT model, checkpoint, symbol, origin
FROM (SELECT model, checkpoint, symbol, origin FROM forecasts WHERE {range}) f
FULL JOIN counted c USING (model, checkpoint, symbol, origin)
WHERE c.n IS NULL OR c.n <> c.expected OR f.symbol IS NULL
