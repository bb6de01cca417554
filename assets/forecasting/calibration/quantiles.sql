-- Quantiles of the close of some forecasts of a model. Registered: `wanted` (number, symbol, origin, checkpoint).
SELECT w.number, q.step, q.level, q.value
FROM forecast_quantiles q JOIN wanted w USING (symbol, origin, checkpoint)
WHERE q.model = $model AND q.field = 'close' AND q.origin BETWEEN $first AND $last
