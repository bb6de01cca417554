-- Of the forecasts in `checkpoints_in_use` that pass the forecast filter, by model, origin and quantile level: the share
-- of actual closes at or below the quantile (share) and below it (below), their number, the last target, the number of
-- outcomes of a step, and of earlier origins learnt from (null: the model does not learn). Actuals are in prices as quoted
-- at the origin, like the quantiles.
WITH learnt AS (
    SELECT model, origin, min(learnt_from) AS learnt_from
    FROM forecasts SEMI JOIN checkpoints_in_use USING (model, checkpoint) WHERE {forecast_filter} GROUP BY ALL
), closes AS (
    SELECT b.symbol, b.ts, b.close AS quoted, a.close AS adjusted
    FROM bars b JOIN adjusted_bars a USING (symbol, ts, frequency)
    WHERE b.frequency = $frequency
)
SELECT q.model, q.origin, l.learnt_from, q.level, avg((t.adjusted * o.quoted / o.adjusted <= q.value)::DOUBLE) AS share,
       avg((t.adjusted * o.quoted / o.adjusted < q.value)::DOUBLE) AS below, count(*) AS n, max(q.target_ts) AS ends,
       count(DISTINCT q.symbol) AS outcomes
FROM (
    SELECT * FROM forecast_quantiles SEMI JOIN checkpoints_in_use USING (model, checkpoint)
    WHERE field = 'close' AND NOT in_sample AND list_contains($levels, level) AND {forecast_filter}
) q
JOIN learnt l ON l.model = q.model AND l.origin = q.origin
JOIN closes o ON o.symbol = q.symbol AND o.ts = q.origin
JOIN closes t ON t.symbol = q.symbol AND t.ts = q.target_ts
GROUP BY ALL ORDER BY ALL
