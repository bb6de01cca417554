-- Quantiles of the close at some levels, of out-of-sample forecasts, with their places in an array of checkpoints ×
-- origins × symbols × steps × levels. Registered: the places on the axes.
SELECT ((((p.place * $origins + o.place) * $symbols + y.place) * $steps + q.step - 1) * $levels + l.place) AS place,
       q.value, q.target_ts
FROM forecast_quantiles q
JOIN placed_levels l USING (level)
JOIN placed_checkpoints p USING (model, checkpoint)
JOIN placed_origins o USING (origin)
JOIN placed_symbols y USING (symbol)
WHERE q.field = 'close' AND NOT q.in_sample AND q.origin BETWEEN $oldest AND $newest
