-- Quantiles of the close at the first and the last step, of the checkpoints in use.
SELECT model, checkpoint, symbol, origin, step, target_ts, level, value, in_sample
FROM forecast_quantiles
WHERE field = 'close'
  AND origin = $origin
  AND level IN (0.05, 0.5, 0.95)
  AND list_contains($used, model || ' ' || checkpoint)
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
  AND step IN (1, $horizon)
ORDER BY symbol, model, step, level
