-- By quantile level: the share of actual closes at or below the quantile (share) and below it (below). Actuals are in
-- prices as quoted at the origin, like the quantiles.
WITH closes AS (
    SELECT b.symbol, b.ts, b.close AS quoted, a.close AS adjusted
    FROM bars b JOIN adjusted_bars a USING (symbol, ts, frequency)
    WHERE b.frequency = $frequency
)
SELECT q.level, avg((t.adjusted * o.quoted / o.adjusted <= q.value)::DOUBLE) AS share,
       avg((t.adjusted * o.quoted / o.adjusted < q.value)::DOUBLE) AS below, count(*) AS n
FROM (SELECT * FROM forecast_quantiles WHERE {range} AND field = 'close') q
JOIN closes o ON o.symbol = q.symbol AND o.ts = q.origin
JOIN closes t ON t.symbol = q.symbol AND t.ts = q.target_ts
GROUP BY q.level ORDER BY q.level
