-- Quantiles of the close beside the close at the origin as it was known when the forecast was made: a correction since then
-- would enter the expected return in full.
SELECT q.model, q.checkpoint, q.symbol, q.origin, q.level, q.value, coalesce(v.close, b.close) AS close, b.session
FROM forecast_quantiles q
JOIN bars b ON b.symbol = q.symbol AND b.ts = q.origin AND b.frequency = $frequency
ASOF LEFT JOIN (
    SELECT symbol, ts, available_at, arg_max(close, since) AS close
    FROM bar_versions WHERE frequency = $frequency AND NOT withdrawn GROUP BY ALL
) v ON v.symbol = q.symbol AND v.ts = q.origin AND q.made_at >= v.available_at
WHERE NOT list_contains($without_signals, q.model) AND q.field = 'close' AND q.step = $step AND NOT q.in_sample AND q.origin >= $since
ORDER BY q.model, q.checkpoint, q.symbol, q.origin, q.level
