SELECT q.model, q.checkpoint, q.symbol, q.origin, q.level, q.value, b.close, b.session
FROM forecast_quantiles q
JOIN bars b ON b.symbol = q.symbol AND b.ts = q.origin AND b.frequency = $frequency
WHERE q.field = 'close' AND q.step = $step AND NOT q.in_sample AND q.origin >= $since
ORDER BY q.model, q.checkpoint, q.symbol, q.origin, q.level
