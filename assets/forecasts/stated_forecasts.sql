-- Of the forecasts in `checkpoints_in_use` that pass the forecast filter, by model and origin: the number of earlier
-- origins learnt from (null: the model does not learn), and a number that changes with the forecasts made.
SELECT model, origin, min(learnt_from) AS learnt_from, bit_xor(hash(checkpoint, symbol, made_at, in_sample)) AS made
FROM forecasts SEMI JOIN checkpoints_in_use USING (model, checkpoint)
WHERE {forecast_filter} GROUP BY model, origin ORDER BY model, origin
