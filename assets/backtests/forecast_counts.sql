SELECT model, checkpoint,
       count(*) FILTER (WHERE in_sample)                          AS in_sample,
       count(*) FILTER (WHERE NOT in_sample AND origin >= $since) AS out_of_sample,
       count(*) FILTER (WHERE NOT in_sample AND origin < $since)  AS early
FROM forecasts
GROUP BY model, checkpoint
ORDER BY model, checkpoint
