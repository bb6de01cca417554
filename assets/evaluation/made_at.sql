SELECT model, origin, max(made_at) AS made_at
FROM forecasts SEMI JOIN checkpoints_in_use USING (model, checkpoint)
WHERE {forecast_filter} AND NOT in_sample GROUP BY model, origin ORDER BY model, origin
