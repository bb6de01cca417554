-- Sums are of decimals and so exact: the order in which threads add them changes no bit.
SELECT model, metric, step,
       sum(value::DECIMAL(24, 12) * weight::DECIMAL(9, 4))::DOUBLE / sum(weight::DECIMAL(9, 4))::DOUBLE AS value
FROM ({scores}) JOIN origin_weights USING (origin)
WHERE metric <> 'pit' GROUP BY ALL ORDER BY ALL
