-- Of the forecasts in `checkpoints_in_use` that pass the forecast filter, by model, origin and quantile level: the share
-- of actual closes at or below the quantile (share) and below it (below), their number, the last target, the number of
-- outcomes of a step, and of earlier origins learnt from (null: the model does not learn). Actuals are in prices as quoted
-- at the origin, like the quantiles.
WITH used AS (
    SELECT * FROM forecasts SEMI JOIN checkpoints_in_use USING (model, checkpoint) WHERE {forecast_filter}
), learnt AS (
    SELECT model, origin, min(learnt_from) AS learnt_from FROM used GROUP BY ALL
), quantiles AS NOT MATERIALIZED (
    SELECT * FROM forecast_quantiles SEMI JOIN checkpoints_in_use USING (model, checkpoint)
    WHERE field = 'close' AND NOT in_sample AND list_contains($levels, level) AND {forecast_filter}
), closes AS (
    SELECT b.symbol, b.ts, b.close AS quoted, a.close AS adjusted
    FROM bars b JOIN adjusted_bars a USING (symbol, ts, frequency)
    WHERE b.frequency = $frequency
), actuals AS MATERIALIZED (
    -- Once for all models and levels.
    SELECT o.symbol, d.origin, d.target_ts, t.adjusted * o.quoted / o.adjusted AS actual
    FROM (SELECT DISTINCT origin, target_ts FROM quantiles WHERE level = $levels[1]) d
    JOIN closes o ON o.ts = d.origin
    JOIN closes t ON t.symbol = o.symbol AND t.ts = d.target_ts
), symbols AS (
    SELECT model, origin, count(DISTINCT symbol) AS outcomes
    FROM used SEMI JOIN actuals USING (symbol, origin) WHERE NOT in_sample GROUP BY ALL
), covered AS (
    SELECT model, origin, level, avg((actual <= value)::DOUBLE) AS share, avg((actual < value)::DOUBLE) AS below,
           count(*) AS n, max(target_ts) AS ends
    FROM quantiles JOIN actuals USING (symbol, origin, target_ts) GROUP BY ALL
)
SELECT model, origin, learnt_from, level, share, below, n, ends, outcomes
FROM covered JOIN learnt USING (model, origin) JOIN symbols USING (model, origin) ORDER BY ALL
