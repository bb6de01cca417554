-- A fingerprint of the quantiles of the close of a model up to an origin, by checkpoint. One checkpoint at a time, and not
-- by origin: DuckDB leaves out the rows of other models by block, and needs a third less time.
SELECT count(*) AS rows, bit_xor(hash(origin, symbol, step, level, value)) AS content
FROM forecast_quantiles
WHERE model = $model AND checkpoint = $checkpoint AND field = 'close' AND origin <= $last
