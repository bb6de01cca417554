SELECT model, metric, step, avg(value::DECIMAL(38, 12)) AS value FROM ({scores}) {out_of_sample}
WHERE metric <> 'pit' GROUP BY ALL ORDER BY ALL
