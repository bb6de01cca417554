-- The number of scores of each target, and their digest, of forecasts of bars of one frequency. The bounds of the origins,
-- which follow from the targets, let the scan skip all other scores.
SELECT target_ts, count(*) AS rows,
       bit_xor(md5_number(concat_ws('|', model, checkpoint, symbol, origin, step, metric, value)))::VARCHAR AS digest
FROM (SELECT * FROM forecast_scores {of_frequency} WHERE origin BETWEEN $oldest AND $newest)
JOIN (
    SELECT DISTINCT origin, step, target_ts FROM forecast_quantiles {of_frequency}
    WHERE {due} AND origin BETWEEN $oldest AND $newest
) USING (origin, step)
GROUP BY target_ts ORDER BY target_ts
