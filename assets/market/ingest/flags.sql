-- Flags of the bars that a batch writes, and of stored bars whose neighbours it changes. Reads only. Runs after
-- current.sql. Temporary tables that exist already: grid (position and half_day of every timestamp), split_ratios.

-- Bars whose neighbour is new, changed or gone, with those before and after.
CREATE TEMP TABLE state AS
SELECT b.symbol, b.ts, b.open, b.high, b.low, b.close, b.volume, b.dividend, b.split,
       suffix(b.actions, 'unknown') AS unknown, list_contains(b.flags, 'incomplete') AS incomplete, b.flags AS had
FROM bars AS b
JOIN touched AS t ON t.symbol = b.symbol AND b.ts >= t.sees_from
ANTI JOIN (SELECT symbol, ts FROM written UNION ALL SELECT symbol, ts FROM gone) AS g
    ON g.symbol = b.symbol AND g.ts = b.ts
WHERE b.frequency = $frequency
UNION ALL
SELECT symbol, ts, open, high, low, close, volume, dividend, split,
       suffix(actions, 'unknown'), incomplete, NULL
FROM written;

CREATE TEMP TABLE noticed AS
WITH seen AS (
    SELECT s.symbol, s.ts, s.had, s.incomplete, s.open, s.close, s.volume, g.half_day,
           g.position - lag(g.position) OVER before - 1 AS missing,
           -- Some sources repeat an action on every bar of its day.
           lag(s.close) OVER before / CASE WHEN s.split = lag(s.split) OVER before THEN 1 ELSE coalesce(s.split, 1) END
               - CASE WHEN s.dividend = lag(s.dividend) OVER before THEN 0 ELSE coalesce(s.dividend, 0) END AS expected,
           s.close = lag(s.close) OVER before AND s.open = lag(s.open) OVER before
               AND s.high = lag(s.high) OVER before AND s.low = lag(s.low) OVER before
               AND s.volume IS NOT DISTINCT FROM lag(s.volume) OVER before AS stale,
           -- Before the first bar nothing can have happened.
           s.unknown AND lag(s.close) OVER before IS NOT NULL AS action_unknown
    FROM state AS s JOIN grid AS g USING (ts)
    WINDOW before AS (PARTITION BY s.symbol ORDER BY s.ts)
)
SELECT *, expected <= 0 OR close / expected NOT BETWEEN 1 / 1.4 AND 1.4 AS jump
FROM seen
WHERE missing > 0 OR volume = 0 OR stale OR half_day OR jump OR action_unknown OR incomplete OR len(had) > 0;

-- Bars that have flags, or had some.
CREATE TEMP TABLE flagged AS
WITH like_splits AS (
    SELECT DISTINCT n.symbol, n.ts
    FROM noticed AS n JOIN split_ratios AS r
        ON abs(n.open / n.expected * r.ratio - 1) < 0.03 AND abs(n.close / n.expected * r.ratio - 1) < 0.1
    WHERE n.jump
)
SELECT n.symbol, n.ts, n.had,
       list_filter([
           CASE WHEN missing BETWEEN 1 AND 5 THEN 'after_gap' END,
           CASE WHEN missing > 5 THEN 'after_suspension' END,
           CASE WHEN volume = 0 THEN 'zero_volume' END,
           CASE WHEN stale THEN 'stale' END,
           CASE WHEN jump THEN 'jump' END,
           CASE WHEN l.symbol IS NOT NULL THEN 'looks_like_split' END,
           CASE WHEN action_unknown THEN 'action_unknown' END,
           CASE WHEN incomplete THEN 'incomplete' END,
           CASE WHEN half_day THEN 'half_day' END
       ], lambda flag: flag IS NOT NULL)::VARCHAR[] AS flags
FROM noticed AS n LEFT JOIN like_splits AS l ON l.symbol = n.symbol AND l.ts = n.ts;

CREATE TEMP TABLE reflagged AS
SELECT b.* REPLACE (f.flags AS flags)
FROM bars AS b JOIN flagged AS f ON f.symbol = b.symbol AND f.ts = b.ts
JOIN touched AS t ON t.symbol = b.symbol AND b.ts > t.sees_from
WHERE b.frequency = $frequency AND f.had IS NOT NULL AND f.had IS DISTINCT FROM f.flags;
