-- A fingerprint of the quantiles of the close of some checkpoints of a model, by origin.
SELECT origin, checkpoint, count(*) AS rows, bit_xor(hash(symbol, step, level, value)) AS content
FROM forecast_quantiles
WHERE model = $model AND list_contains($checkpoints, checkpoint) AND field = 'close'
GROUP BY origin, checkpoint ORDER BY origin, checkpoint
