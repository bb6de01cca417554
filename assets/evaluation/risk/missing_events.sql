-- The origins since the start of the test range whose forecasts lack one of the wanted probabilities, by checkpoint.
-- Registered: `laws` (model, checkpoint), `wanted_events` (measure, level).
SELECT DISTINCT f.model, f.checkpoint, f.origin
FROM forecasts f
SEMI JOIN laws USING (model, checkpoint)
LEFT JOIN (
    SELECT model, checkpoint, symbol, origin, count(*) AS events
    FROM forecast_risk JOIN wanted_events USING (measure, level) SEMI JOIN laws USING (model, checkpoint)
    WHERE step = $step
    GROUP BY ALL
) k USING (model, checkpoint, symbol, origin)
WHERE f.origin >= $first AND ($symbols IS NULL OR list_contains($symbols, f.symbol))
  AND coalesce(k.events, 0) < (SELECT count(*) FROM wanted_events)
ORDER BY ALL
