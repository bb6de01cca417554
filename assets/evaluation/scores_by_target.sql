-- The number of scores of each target, and their digest, of forecasts of bars of one frequency.
SELECT target_ts, count(*) AS rows,
       bit_xor(md5_number(concat_ws('|', model, checkpoint, symbol, origin, step, metric, value)))::VARCHAR AS digest
FROM forecast_scores {of_frequency}
JOIN (
    SELECT DISTINCT origin, step, target_ts FROM forecast_quantiles {of_frequency}
    WHERE field = 'close' AND level = 0.5 AND target_ts >= $first AND target_ts < $after
) USING (origin, step)
GROUP BY target_ts ORDER BY target_ts
