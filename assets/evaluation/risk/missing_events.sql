-- The forecasts of a checkpoint since the start of the test range that lack one of the wanted probabilities.
SELECT f.symbol, f.origin
FROM forecasts f
LEFT JOIN (
    SELECT symbol, origin, count(*) AS events
    FROM forecast_risk JOIN wanted_events USING (measure, level)
    WHERE model = $model AND checkpoint = $checkpoint AND step = $step
    GROUP BY symbol, origin
) k USING (symbol, origin)
WHERE f.model = $model AND f.checkpoint = $checkpoint AND f.origin >= $first
  AND ($symbols IS NULL OR list_contains($symbols, f.symbol))
  AND coalesce(k.events, 0) < (SELECT count(*) FROM wanted_events)
ORDER BY f.origin, f.symbol
