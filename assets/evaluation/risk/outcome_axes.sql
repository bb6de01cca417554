-- The models, symbols and origins of out-of-sample forecasts that the settings plan.
WITH planned AS (FROM forecasts WHERE NOT in_sample AND {forecast_filter})
SELECT list_sort(list(DISTINCT model)) AS models, list_sort(list(DISTINCT symbol)) AS symbols,
       list_sort(list(DISTINCT origin)) AS origins
FROM planned
