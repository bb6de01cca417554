-- Quantiles of the close at the wanted steps and levels, with their places in an array of checkpoints × origins × symbols ×
-- steps × levels. Registered: the places (LossGrid).
SELECT ((((p.place * $origins + o.place) * $symbols + y.place) * $steps + s.place) * $levels + l.place) AS place,
       q.value, q.target_ts, q.in_sample
FROM forecast_quantiles q
JOIN placed_levels l ON l.level = round(q.level, 6)
JOIN placed_steps s USING (step)
JOIN placed_checkpoints p USING (model, checkpoint)
JOIN placed_origins o USING (origin)
JOIN placed_symbols y USING (symbol)
WHERE q.field = 'close'
