-- Quantiles of one level that together are no valid bar.
SELECT model, checkpoint, symbol, origin, step, level FROM (
    SELECT model, checkpoint, symbol, origin, step, level,
           max(value) FILTER (field = 'open') AS open, max(value) FILTER (field = 'high') AS high,
           max(value) FILTER (field = 'low') AS low, max(value) FILTER (field = 'close') AS close,
           min(value) FILTER (field IN ('open', 'high', 'low', 'close')) AS least_price,
           min(value) FILTER (field IN ('volume', 'amount', 'range')) AS least_size
    FROM forecast_quantiles WHERE {range} GROUP BY ALL
)
WHERE least_price <= 0 OR least_size < 0 OR low > least(open, close) OR high < greatest(open, close)
