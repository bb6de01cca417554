-- Quantiles that are not finite, or smaller than the one of the next lower level.
SELECT model, checkpoint, symbol, origin, step, field FROM (
    SELECT model, checkpoint, symbol, origin, step, field, level, value,
           lag(value) OVER (PARTITION BY model, checkpoint, symbol, origin, step, field ORDER BY level) AS below
    FROM forecast_quantiles WHERE {range}
)
WHERE NOT isfinite(value) OR value < below
