-- Quantiles of the checkpoints in use from one origin. $fields, $steps: null for all.
SELECT model, checkpoint, symbol, origin, step, target_ts, field, level, value, in_sample
FROM forecast_quantiles
WHERE origin = $origin
  AND list_contains($used, model || ' ' || checkpoint)
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
  AND ($fields IS NULL OR list_contains($fields, field))
  AND ($steps IS NULL OR list_contains($steps, step))
ORDER BY symbol, model, step, field, level
