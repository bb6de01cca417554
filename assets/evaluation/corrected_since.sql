-- The number of forecasts per model that pass the filter and were made from bars that were corrected since.
SELECT model, count(*) AS forecasts
FROM made_from_corrected_bars SEMI JOIN checkpoints_in_use USING (model, checkpoint)
WHERE {forecast_filter} GROUP BY model ORDER BY model
