-- Of the forecasts in `checkpoints_in_use` that pass the forecast filter, by model, origin and quantile level: the share
-- of actual closes at or below the quantile (share) and below it (below), their number, and the last target. Actuals are
-- in prices as quoted at the origin, like the quantiles.
WITH closes AS (
    SELECT b.symbol, b.ts, b.close AS quoted, a.close AS adjusted
    FROM bars b JOIN adjusted_bars a USING (symbol, ts, frequency)
    WHERE b.frequency = $frequency
)
SELECT q.model, q.origin, q.level, avg((t.adjusted * o.quoted / o.adjusted <= q.value)::DOUBLE) AS share,
       avg((t.adjusted * o.quoted / o.adjusted < q.value)::DOUBLE) AS below, count(*) AS n, max(q.target_ts) AS ends
FROM (
    SELECT * FROM forecast_quantiles SEMI JOIN checkpoints_in_use USING (model, checkpoint)
    WHERE field = 'close' AND NOT in_sample AND list_contains($levels, level) AND {forecast_filter}
) q
JOIN closes o ON o.symbol = q.symbol AND o.ts = q.origin
JOIN closes t ON t.symbol = q.symbol AND t.ts = q.target_ts
GROUP BY ALL ORDER BY ALL
