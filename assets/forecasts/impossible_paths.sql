-- Bars of sample paths that are not valid bars.
SELECT symbol, filename, path, step FROM read_parquet($files, filename = true)
WHERE NOT coalesce(low > 0 AND low <= least(open, close) AND greatest(open, close) <= high
                   AND isfinite(high) AND volume >= 0 AND amount >= 0, false)
