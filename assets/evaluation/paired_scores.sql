-- One row per pair of models, metric, horizon and origin: the means of both over the symbols and steps that both
-- scored. Sums are of decimals and so exact: the order in which threads add them changes no bit of the scoreboard.
WITH cells AS (
    SELECT model, symbol, origin, step, metric, value::DECIMAL(38, 12) AS value
    FROM ({scores}) {out_of_sample} WHERE metric <> 'pit'
),
pairs AS (
    SELECT m.model, m.metric, m.step, m.origin, b.model AS baseline, m.value, b.value AS baseline_value
    FROM cells m JOIN cells b USING (symbol, origin, step, metric)
    WHERE list_contains($baselines, b.model) AND m.model <> b.model AND NOT list_contains(map_keys($chance), m.metric)
    UNION ALL
    SELECT model, metric, step, origin, $baselines[1], value, $chance[metric]::DECIMAL(38, 12)
    FROM cells WHERE list_contains(map_keys($chance), metric)
),
steps AS (
    SELECT model, metric, step, origin, baseline, sum(value) AS value, sum(baseline_value) AS baseline_value,
           count(*) AS n
    FROM pairs GROUP BY ALL
)
SELECT model, metric, horizon, baseline, origin,
       sum(value)::DOUBLE / sum(n) AS value, sum(baseline_value)::DOUBLE / sum(n) AS baseline_value
FROM steps JOIN (SELECT unnest($horizons) AS horizon) ON horizon = {all_steps} OR horizon = step
GROUP BY ALL ORDER BY ALL
