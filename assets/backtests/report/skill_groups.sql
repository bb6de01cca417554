-- CRPS of each model and of the reference model over the forecasts that both made out of sample: by year of the origin
-- (kind 'year') and by symbol (kind 'symbol'). Sums are of decimals and so exact, whatever their order.
WITH cells AS (
    SELECT s.model, s.symbol, s.origin, s.step, s.value::DECIMAL(38, 12) AS value
    FROM (SELECT * FROM forecast_scores WHERE metric = 'crps' AND {forecast_filter}) s
    JOIN forecasts f USING (model, checkpoint, symbol, origin)
    WHERE NOT f.in_sample AND list_contains($checkpoints, s.model || ' ' || s.checkpoint)
),
pairs AS (
    SELECT m.model, year(m.origin)::VARCHAR AS year, m.symbol, m.origin, m.value, r.value AS reference
    FROM cells m JOIN cells r USING (symbol, origin, step) WHERE r.model = $reference AND m.model <> $reference
)
SELECT model, CASE WHEN year IS NULL THEN 'symbol' ELSE 'year' END AS kind, coalesce(year, symbol) AS name,
       sum(value)::DOUBLE AS value, sum(reference)::DOUBLE AS reference, count(DISTINCT origin) AS origins
FROM pairs GROUP BY GROUPING SETS ((model, year), (model, symbol)) ORDER BY ALL
