-- Every model and checkpoint with forecasts, its origins, and the weights that it forecast with.
SELECT q.model, q.checkpoint, count(DISTINCT q.origin) AS origins, min(q.origin) AS first, max(q.origin) AS last,
       count(*) AS rows, coalesce(any_value(r.weights), '') AS weights,
       coalesce(any_value(r.recipe), '{}') AS recipe
FROM forecast_quantiles AS q
LEFT JOIN forecast_recipes AS r ON r.model = q.model AND r.checkpoint = q.checkpoint
GROUP BY q.model, q.checkpoint
ORDER BY q.model, q.checkpoint
