-- The stored value at risk and expected shortfall of some models, with their places in an array of checkpoints × origins ×
-- symbols × steps × measures; no place: none of the grid's. Registered: the places (LossGrid), `placed_measures`.
SELECT r.rowid AS row,
       (((p.place * $origins + o.place) * $symbols + y.place) * $steps + s.place) * $measures + m.place AS place,
       r.value, r.target_ts, r.outcomes, coalesce(list_position($methods, r.method), 0) - 1 AS method
FROM forecast_risk r
LEFT JOIN placed_checkpoints p USING (model, checkpoint)
LEFT JOIN placed_origins o USING (origin)
LEFT JOIN placed_symbols y USING (symbol)
LEFT JOIN placed_steps s USING (step)
LEFT JOIN placed_measures m USING (measure, level)
WHERE list_contains($models, r.model) AND list_contains($losses, r.measure)
