-- The quantiles of a checkpoint's forecasts that have an actual and no score against it yet, one row per cell.
-- Registered: `actuals`, `changed` (cells to score anew).
WITH missing AS (
    SELECT symbol, origin, step, actual, last_close, scale FROM actuals
    ANTI JOIN (
        SELECT symbol, origin, step FROM forecast_scores ANTI JOIN changed USING (symbol, origin, step)
        WHERE model = $model AND checkpoint = $checkpoint AND metric = 'crps' AND origin BETWEEN $oldest AND $newest
    ) USING (symbol, origin, step)
)
SELECT symbol, origin, step, any_value(actual) AS actual, any_value(last_close) AS last_close,
       any_value(scale) AS scale, list(level) AS levels, list(value) AS quantiles
FROM forecast_quantiles JOIN missing USING (symbol, origin, step)
WHERE model = $model AND checkpoint = $checkpoint AND field = 'close' AND origin BETWEEN $oldest AND $newest
GROUP BY symbol, origin, step
ORDER BY origin, step, symbol
