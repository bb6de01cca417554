-- The quantiles of the close of some forecasts at one step, with their places in an array of forecasts × levels.
-- Registered: `placed_forecasts` (model, checkpoint, symbol, origin, place), `placed_levels`.
SELECT f.place * $levels + l.place AS place, q.value
FROM forecast_quantiles q JOIN placed_forecasts f USING (model, checkpoint, symbol, origin)
JOIN placed_levels l USING (level)
WHERE q.field = 'close' AND q.step = $step AND q.origin BETWEEN $oldest AND $newest
