-- By symbol the first and the last bar that a batch writes or deletes, and the bar before the first: flags look back.
CREATE TEMP TABLE touched AS
WITH changed AS (SELECT symbol, ts FROM written UNION ALL SELECT symbol, ts FROM gone),
span AS (SELECT symbol, min(ts) AS ts, max(ts) AS last FROM changed GROUP BY symbol)
SELECT s.symbol, s.ts, s.last, coalesce(max(b.ts), s.ts) AS sees_from
FROM span AS s LEFT JOIN bars AS b ON b.symbol = s.symbol AND b.ts < s.ts AND b.frequency = $frequency
GROUP BY s.symbol, s.ts, s.last;
