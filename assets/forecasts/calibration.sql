-- Per forecaster and quantile level: the share of actual closes at or below the quantile (share) and below it (below).
-- Actuals are in prices as quoted at the origin, like the quantiles. No target is after $until, a constant: bars after it
-- are not read.
WITH forecasters AS (SELECT unnest($models) AS model, unnest($checkpoints) AS checkpoint),
quantiles AS (
    SELECT model, checkpoint, symbol, origin, target_ts, level, value
    FROM forecast_quantiles SEMI JOIN forecasters USING (model, checkpoint)
    WHERE origin BETWEEN $first AND $last AND field = 'close'
),
closes AS (
    SELECT b.symbol, b.ts, b.close AS quoted, a.close AS adjusted
    FROM bars b JOIN adjusted_bars a USING (symbol, ts, frequency)
    WHERE b.frequency = $frequency AND b.ts BETWEEN $first AND $until AND a.ts BETWEEN $first AND $until
)
SELECT q.model, q.checkpoint, q.level, avg((t.adjusted * o.quoted / o.adjusted <= q.value)::DOUBLE) AS share,
       avg((t.adjusted * o.quoted / o.adjusted < q.value)::DOUBLE) AS below, count(*) AS n
FROM quantiles q
JOIN closes o ON o.symbol = q.symbol AND o.ts = q.origin
JOIN closes t ON t.symbol = q.symbol AND t.ts = q.target_ts
GROUP BY q.model, q.checkpoint, q.level ORDER BY q.model, q.checkpoint, q.level
