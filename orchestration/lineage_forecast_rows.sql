-- The forecasts of a model for a symbol whose origin begins with a text such as 2012-06-01 or 2012-06-01 14:30.
SELECT f.model, f.symbol, f.origin, f.checkpoint, f.made_at, f.in_sample,
       coalesce(f.learnt_from || ' earlier origins', '') AS learnt_from, coalesce(r.weights, '') AS weights,
       coalesce(r.recipe, '{}') AS recipe
FROM forecasts AS f LEFT JOIN forecast_recipes AS r ON r.model = f.model AND r.checkpoint = f.checkpoint
WHERE f.model = $model AND f.symbol = $symbol AND starts_with(f.origin::VARCHAR, $origin)
ORDER BY f.made_at DESC, f.origin
