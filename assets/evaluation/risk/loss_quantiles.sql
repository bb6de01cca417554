-- One row per cell of a model's forecasts: the quantiles of the close, the close at the origin, and the close at the
-- target where it is known. `planned`: from an origin that the settings plan, warm-up included.
SELECT symbol, q.checkpoint, origin, step, any_value(q.target_ts) AS target_ts,
       any_value(q.in_sample) AS in_sample, any_value(b.close) AS last_close,
       any_value(a.actual / a.last_close) AS growth, list(q.value ORDER BY q.level) AS quantiles,
       any_value({origin_filter}) AS planned
FROM forecast_quantiles q
JOIN (SELECT symbol, ts AS origin, close FROM bars WHERE frequency = $frequency) b USING (symbol, origin)
LEFT JOIN scored_actuals a USING (symbol, origin, step)
WHERE q.model = $model AND list_contains($checkpoints, q.checkpoint) AND q.field = 'close'
  AND list_contains($steps, step) AND list_contains($levels, round(q.level, 6))
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
GROUP BY symbol, q.checkpoint, origin, step
ORDER BY origin, symbol, step
