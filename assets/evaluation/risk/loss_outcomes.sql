-- Value at risk and expected shortfall of out-of-sample forecasts, with their places in an array of steps × levels × models ×
-- symbols × origins. Of several checkpoints of a model the larger ones. Registered: a table for each axis (placed_rows).
SELECT place, any_value(target_ts) AS target_ts, max(value) FILTER (measure = 'var') AS var,
       max(value) FILTER (measure = 'es') AS es
FROM (
    SELECT (((s.place * $levels + l.place) * $models + m.place) * $symbols + y.place) * $origins + o.place AS place,
           target_ts, measure, value
    FROM forecast_risk r
    JOIN placed_steps s USING (step)
    JOIN placed_levels l USING (level)
    JOIN placed_models m USING (model)
    JOIN placed_symbols y USING (symbol)
    JOIN placed_origins o USING (origin)
    SEMI JOIN (FROM forecasts WHERE NOT in_sample) f USING (model, checkpoint, symbol, origin)
    WHERE measure IN ('var', 'es')
)
GROUP BY place
