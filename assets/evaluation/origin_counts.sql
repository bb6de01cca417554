SELECT model, count(DISTINCT origin) FILTER (in_sample) AS in_sample,
       count(DISTINCT origin) FILTER (NOT in_sample) AS out_of_sample
FROM forecasts SEMI JOIN checkpoints_in_use USING (model, checkpoint)
WHERE {forecast_filter} GROUP BY model ORDER BY model
