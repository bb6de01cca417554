-- Location (log of median over close) and scale (mean log distance from the median) of the newest forecasts of every
-- anchored model, of the model that it anchors, and of the volatility model: one row per symbol and step.
WITH newest AS (
    SELECT model, max(origin) AS origin FROM forecasts
    WHERE ends_with(model, $suffix) AND list_contains($checkpoints, model || ' ' || checkpoint) AND {forecast_filter}
    GROUP BY model
),
shapes AS (
    SELECT q.model, q.symbol, q.origin, q.step, ln(any_value(m.value) / any_value(b.close)) AS location,
           avg(abs(ln(q.value / m.value))) AS scale
    FROM forecast_quantiles q
    JOIN forecast_quantiles m USING (model, checkpoint, symbol, origin, step, field)
    JOIN bars b ON b.symbol = q.symbol AND b.ts = q.origin AND b.frequency = $frequency
    WHERE q.origin IN (SELECT origin FROM newest) AND q.field = 'close' AND m.level = 0.5 AND q.level <> 0.5
      AND list_contains($checkpoints, q.model || ' ' || q.checkpoint)
    GROUP BY ALL
)
SELECT a.model, a.origin, a.symbol, a.step, a.location, a.scale, o.location AS own_location, o.scale AS own_scale,
       v.scale AS volatility
FROM newest n
JOIN shapes a USING (model, origin)
JOIN shapes o ON o.model = n.model[:-length($suffix) - 1] AND (o.symbol, o.origin, o.step) = (a.symbol, a.origin, a.step)
JOIN shapes v ON v.model = $volatility AND (v.symbol, v.origin, v.step) = (a.symbol, a.origin, a.step)
ORDER BY ALL
