-- Quantiles of the close of some forecasts. Registered: `wanted` (number, model, checkpoint, symbol, origin).
SELECT w.number, q.step, q.level, q.value
FROM forecast_quantiles q JOIN wanted w USING (model, checkpoint, symbol, origin)
WHERE q.field = 'close' AND q.origin BETWEEN $first AND $last AND {models}
