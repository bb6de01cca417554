-- The out-of-sample forecasts in `checkpoints_in_use` beside the close at the origin as it was known when the forecast was
-- made: a correction since then would enter the expected return in full.
SELECT f.model, f.checkpoint, f.symbol, f.origin, coalesce(v.close, b.close) AS close, b.session
FROM (FROM forecasts SEMI JOIN checkpoints_in_use USING (model, checkpoint)) f
JOIN bars b ON b.symbol = f.symbol AND b.ts = f.origin AND b.frequency = $frequency
ASOF LEFT JOIN (
    SELECT symbol, ts, available_at, arg_max(close, since) AS close
    FROM bar_versions WHERE frequency = $frequency AND NOT withdrawn GROUP BY ALL
) v ON v.symbol = f.symbol AND v.ts = f.origin AND f.made_at >= v.available_at
WHERE NOT list_contains($without_signals, f.model) AND NOT f.in_sample AND f.origin >= $since
ORDER BY f.model, f.checkpoint, f.symbol, f.origin
