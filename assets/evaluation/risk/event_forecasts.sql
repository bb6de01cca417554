-- Probabilities of out-of-sample forecasts that the settings plan.
SELECT model, symbol, origin, step, target_ts, measure, level, value
FROM forecast_risk r
SEMI JOIN (FROM forecasts WHERE NOT in_sample) f USING (model, checkpoint, symbol, origin)
WHERE measure IN ('drawdown', 'touch') AND {forecast_filter}
ORDER BY model, measure, level, symbol, origin
