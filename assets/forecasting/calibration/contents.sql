-- A fingerprint of the quantiles of the close of some checkpoints of a model, by origin. One model at a time: DuckDB then
-- leaves out the rows of others by block.
SELECT origin, checkpoint, count(*) AS rows, bit_xor(hash(symbol, step, level, value)) AS content
FROM forecast_quantiles
WHERE model = $model AND list_contains($checkpoints, checkpoint) AND field = 'close'
GROUP BY origin, checkpoint ORDER BY origin, checkpoint
