-- The scores of one metric from some origins, in units of 1e-12, and their places in an array of forecasts × steps ×
-- symbols. Registered: `placed_origins` (model, checkpoint, origin, place), `placed_symbols` (symbol, place).
SELECT (o.place * $steps + step - 1) * $symbols + y.place AS place, round(value * 1e12) AS scaled
FROM forecast_scores JOIN placed_origins o USING (model, checkpoint, origin) JOIN placed_symbols y USING (symbol)
WHERE metric = $metric AND origin BETWEEN $oldest AND $newest
