-- How many bars of the calendar lie between the rows of a payload, where they are never adjacent: bars of a coarser
-- frequency. Rows: payload, the median spacing, an example of two neighbouring timestamps.
WITH placed AS (
    SELECT DISTINCT r.payload, r.symbol, g.position, g.session, g.ts
    FROM received AS r
    JOIN grid AS g ON g.ts = CASE WHEN $daily THEN r.local::DATE::TIMESTAMP
                                  ELSE coalesce(r.instant, timezone('UTC', timezone($zone, r.local))) END
    WHERE NOT r.left_out
),
spaced AS (
    SELECT payload, ts, position - lag(position) OVER before AS gap, lag(ts) OVER before AS previous,
           $daily OR session = lag(session) OVER before AS counts
    FROM placed WINDOW before AS (PARTITION BY payload, symbol ORDER BY position)
)
SELECT payload, median(gap)::INTEGER, strftime(min(previous), $format), strftime(arg_min(ts, previous), $format)
FROM spaced WHERE gap IS NOT NULL AND counts
GROUP BY payload
HAVING count(*) >= $least AND quantile_cont(gap, 0.1) >= $closest
   AND ($daily OR quantile_cont(gap, 0.1) = quantile_cont(gap, 0.9));
