-- Scores of metrics that are compared with their level by chance: one row per model, metric, horizon and origin, with the
-- mean over symbols and steps. Sums are of decimals and so exact: the order in which threads add them changes no bit.
WITH steps AS (
    SELECT model, metric, step, origin, sum(value::DECIMAL(38, 12)) AS value,
           sum($chance[metric]::DECIMAL(38, 12)) AS baseline_value, count(*) AS n
    FROM ({scores}) WHERE list_contains(map_keys($chance), metric)
    GROUP BY ALL
)
SELECT model, metric, horizon, $baseline AS baseline, origin,
       sum(value)::DOUBLE / sum(n) AS value, sum(baseline_value)::DOUBLE / sum(n) AS baseline_value
FROM steps JOIN (SELECT unnest($horizons) AS horizon) ON horizon = {all_steps} OR horizon = step
GROUP BY ALL ORDER BY ALL
