-- The quantiles of the close over all steps, and the close at the origin, of a model's forecasts from some origins: one
-- row per forecast, ordered by origin and symbol.
SELECT q.symbol, q.origin, max(q.target_ts) AS target_ts, any_value(b.close) AS last_close,
       list(q.value ORDER BY q.step, q.level) AS quantiles
FROM forecast_quantiles q
JOIN bars b ON b.symbol = q.symbol AND b.ts = q.origin AND b.frequency = $frequency
WHERE q.model = $model AND q.checkpoint = $checkpoint AND q.field = 'close'
  AND list_contains($origins::TIMESTAMP[], q.origin) AND list_contains($levels, round(q.level, 6))
  AND ($symbols IS NULL OR list_contains($symbols, q.symbol))
GROUP BY q.symbol, q.origin
ORDER BY q.origin, q.symbol
