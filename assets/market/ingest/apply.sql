-- What compare.sql found, applied. Also made before this runs: the temporary tables
--   grid      position and half_day of every stamp that matters    split_ratios    reasons

INSERT INTO superseded_bars
SELECT b.*, c.fetched_at, c.sha256
FROM bars AS b
JOIN (SELECT symbol, ts, payload FROM fate WHERE stored AND NOT same UNION ALL FROM gone) AS g
    ON g.symbol = b.symbol AND g.ts = b.ts
JOIN contributed AS c ON c.number = g.payload
WHERE b.frequency = $frequency;

CREATE TEMP TABLE state AS
SELECT b.symbol, b.ts, b.open, b.high, b.low, b.close, b.volume, b.dividend, b.split,
       suffix(b.actions, 'unknown') AS untold, b.flags AS had
FROM bars AS b
JOIN touched AS t ON t.symbol = b.symbol AND b.ts >= t.sees_from
ANTI JOIN (SELECT symbol, ts FROM fate WHERE NOT same UNION ALL SELECT symbol, ts FROM gone) AS g
    ON g.symbol = b.symbol AND g.ts = b.ts
WHERE b.frequency = $frequency
UNION ALL
SELECT symbol, ts, open, high, low, close, volume, dividend, split,
       suffix(actions, 'unknown'), NULL
FROM fate WHERE NOT same;

CREATE TEMP TABLE noticed AS
WITH seen AS (
    SELECT s.symbol, s.ts, s.had, s.open, s.close, s.volume, g.half_day,
           g.position - lag(g.position) OVER before - 1 AS missing,
           -- Some sources repeat an action on every bar of its day.
           lag(s.close) OVER before / CASE WHEN s.split = lag(s.split) OVER before THEN 1 ELSE coalesce(s.split, 1) END
               - CASE WHEN s.dividend = lag(s.dividend) OVER before THEN 0 ELSE coalesce(s.dividend, 0) END AS expected,
           s.close = lag(s.close) OVER before AND s.open = lag(s.open) OVER before
               AND s.high = lag(s.high) OVER before AND s.low = lag(s.low) OVER before
               AND s.volume IS NOT DISTINCT FROM lag(s.volume) OVER before AS stale,
           -- Before the first bar nothing can have happened.
           s.untold AND lag(s.close) OVER before IS NOT NULL AS action_unknown
    FROM state AS s JOIN grid AS g USING (ts)
    WINDOW before AS (PARTITION BY s.symbol ORDER BY s.ts)
)
SELECT *, expected <= 0 OR close / expected NOT BETWEEN 1 / 1.4 AND 1.4 AS jump
FROM seen
WHERE missing > 0 OR volume = 0 OR stale OR half_day OR jump OR action_unknown OR len(had) > 0;

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
           CASE WHEN half_day THEN 'half_day' END
       ], lambda flag: flag IS NOT NULL)::VARCHAR[] AS flags
FROM noticed AS n LEFT JOIN like_splits AS l ON l.symbol = n.symbol AND l.ts = n.ts;

CREATE TEMP TABLE reflagged AS
SELECT b.* REPLACE (f.flags AS flags)
FROM bars AS b JOIN flagged AS f ON f.symbol = b.symbol AND f.ts = b.ts
JOIN touched AS t ON t.symbol = b.symbol AND b.ts > t.sees_from
WHERE b.frequency = $frequency AND f.had IS NOT NULL AND f.had IS DISTINCT FROM f.flags;

CREATE TEMP TABLE sessions_touched AS
SELECT DISTINCT session FROM (
    SELECT session FROM fate WHERE NOT same
    UNION ALL SELECT b.session FROM bars AS b JOIN gone AS g ON g.symbol = b.symbol AND g.ts = b.ts
    UNION ALL SELECT session FROM reflagged
);

DELETE FROM bars USING (
    SELECT symbol, ts FROM fate WHERE stored AND NOT same
    UNION ALL SELECT symbol, ts FROM gone
    UNION ALL SELECT symbol, ts FROM reflagged
) AS g
WHERE bars.symbol = g.symbol AND bars.ts = g.ts AND bars.frequency = $frequency;

INSERT INTO bars
SELECT f.symbol, f.ts, f.session, $frequency, f.open, f.high, f.low, f.close, f.volume, f.amount, coalesce(g.flags, []),
       c.source, c.sha256, c.fetched_at, f.dividend, f.split, f.actions, $batch
FROM fate AS f
LEFT JOIN flagged AS g ON g.symbol = f.symbol AND g.ts = f.ts
JOIN contributed AS c ON c.number = f.payload
WHERE NOT f.same
UNION ALL
FROM reflagged
ORDER BY symbol, ts;

INSERT INTO rejected_bars
SELECT r.symbol, r.date, r.open, r.high, r.low, r.close, r.volume, r.amount, r.session, $frequency, r.file, r.row_number,
       r.received, r.rule, why.reason, c.source, c.sha256, c.fetched_at, $batch
FROM read_parquet($rejected, hive_partitioning = false) AS r
JOIN contributed AS c ON c.number = r.payload
JOIN reasons AS why ON why.rule = r.rule;

INSERT INTO payloads
SELECT c.sha256, c.source, c.request, c.file, c.received,
       c.received - c.folded - c.rejected - coalesce(s.same, 0), c.folded + coalesce(s.same, 0), c.rejected,
       c.fetched_at, $batch, $frequency
FROM contributed AS c
LEFT JOIN (SELECT payload, count(*) AS same FROM fate WHERE same GROUP BY payload) AS s ON s.payload = c.number;
