-- The first bar whose flags may change: the one before a touched one must be seen as well.
CREATE TEMP TABLE touched AS
WITH keys AS (SELECT symbol, ts FROM fate WHERE NOT same UNION ALL SELECT symbol, ts FROM gone),
first AS (SELECT symbol, min(ts) AS ts, max(ts) AS last FROM keys GROUP BY symbol)
SELECT f.symbol, f.ts, f.last, coalesce(max(b.ts), f.ts) AS sees_from
FROM first AS f LEFT JOIN bars AS b ON b.symbol = f.symbol AND b.ts < f.ts AND b.frequency = $frequency
GROUP BY f.symbol, f.ts, f.last;
