-- The stored forecasts of some checkpoints of a model that pass the filter: one per origin and symbol, by the last of the
-- checkpoints that made one.
SELECT origin, symbol, max_by(checkpoint, list_position($checkpoints, checkpoint)) AS checkpoint
FROM forecasts
WHERE model = $model AND list_contains($checkpoints, checkpoint) AND {forecast_filter}
GROUP BY origin, symbol
