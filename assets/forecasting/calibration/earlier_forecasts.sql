-- The stored forecasts of some checkpoints that pass the filter: number of the checkpoint, place of the symbol, origin.
-- Registered: `pairs` (number, model, checkpoint), `named` (place, symbol).
SELECT p.number, n.place, f.origin
FROM forecasts f JOIN pairs p USING (model, checkpoint) JOIN named n USING (symbol)
WHERE {forecast_filter}
