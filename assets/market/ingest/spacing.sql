-- How many bars of the calendar lie between the rows of a symbol, or of a payload, where they are never adjacent: bars of
-- a coarser frequency. A symbol beside others must be evenly spaced, as one that is seldom traded is not. Rows: payload,
-- symbol (NULL: all), the median spacing, an example of two neighbouring timestamps.
WITH placed AS (
    SELECT DISTINCT r.payload, r.symbol, g.position, g.session, g.ts
    FROM received AS r
    JOIN grid AS g ON g.ts = CASE WHEN $daily THEN r.local::DATE::TIMESTAMP
                                  ELSE coalesce(r.instant, timezone('UTC', timezone($zone, r.local))) END
    WHERE NOT r.left_out
),
spaced AS (
    SELECT payload, symbol, ts, position - lag(position) OVER before AS gap, lag(ts) OVER before AS previous,
           $daily OR session = lag(session) OVER before AS counts
    FROM placed WINDOW before AS (PARTITION BY payload, symbol ORDER BY position)
)
SELECT payload, symbol, median(gap)::INTEGER, strftime(min(previous), $format), strftime(arg_min(ts, previous), $format)
FROM spaced WHERE gap IS NOT NULL AND counts
GROUP BY GROUPING SETS ((payload), (payload, symbol))
HAVING count(*) >= $least
   -- A session of hourly bars may begin or end with a half hour.
   AND CASE WHEN $daily THEN quantile_cont(gap, 0.1) ELSE quantile_cont(gap, 0.25) END >= $closest
   AND CASE WHEN NOT $daily THEN quantile_cont(gap, 0.25) = quantile_cont(gap, 0.9)
            WHEN symbol IS NULL THEN true
            -- Weekly bars are 4 or 5 sessions apart, monthly ones 18 to 23.
            ELSE quantile_cont(gap, 0.9) <= 1.4 * quantile_cont(gap, 0.1) END
QUALIFY row_number() OVER (PARTITION BY payload ORDER BY symbol NULLS FIRST) = 1;
