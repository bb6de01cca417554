-- Value at risk and expected shortfall beside the loss that occurred, of out-of-sample forecasts that the settings plan.
SELECT r.model, symbol, origin, any_value(r.target_ts) AS target_ts,
       max(r.value) FILTER (r.measure = 'var') AS var, max(r.value) FILTER (r.measure = 'es') AS es,
       any_value(-ln(a.actual / a.last_close)) AS loss
FROM forecast_risk r
JOIN scored_actuals a USING (symbol, origin, step)
SEMI JOIN (FROM forecasts WHERE NOT in_sample) f USING (model, checkpoint, symbol, origin)
WHERE step = $step AND r.level = $level AND r.measure IN ('var', 'es') AND {forecast_filter}
GROUP BY r.model, symbol, origin
ORDER BY r.model, symbol, origin
