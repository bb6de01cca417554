-- Writes what compare.sql, current.sql and flags.sql found. Also exists already: the temporary table reasons.

CREATE TEMP TABLE sessions_touched AS
SELECT DISTINCT session FROM (
    SELECT session FROM written UNION ALL SELECT session FROM gone UNION ALL SELECT session FROM reflagged
);

CREATE TEMP TABLE kept_rows AS
SELECT payload, count(*) AS rows
FROM (SELECT payload FROM fresh UNION ALL SELECT payload FROM added WHERE NOT folded AND NOT rederived)
GROUP BY payload;

INSERT INTO bar_versions BY NAME
FROM promoted
UNION ALL BY NAME
SELECT * EXCLUDE (payload, row, parts, freed, rederived) FROM added
UNION ALL BY NAME
FROM withdrawals
UNION ALL BY NAME
FROM restored
ORDER BY symbol, ts;

DELETE FROM bars USING (
    SELECT symbol, ts FROM decided WHERE stored AND NOT same
    UNION ALL SELECT symbol, ts FROM gone
    UNION ALL SELECT symbol, ts FROM reflagged
) AS g
WHERE bars.symbol = g.symbol AND bars.ts = g.ts AND bars.frequency = $frequency;

INSERT INTO bars
SELECT w.symbol, w.ts, w.session, $frequency, w.open, w.high, w.low, w.close, w.volume, w.amount, coalesce(g.flags, []),
       w.source, w.payload_sha256, w.available_at, w.dividend, w.split, w.actions, w.batch
FROM written AS w LEFT JOIN flagged AS g ON g.symbol = w.symbol AND g.ts = w.ts
UNION ALL
FROM reflagged
ORDER BY symbol, ts;

UPDATE bars SET payload_sha256 = n.payload_sha256, batch = n.batch FROM passed_on AS n
WHERE bars.symbol = n.symbol AND bars.ts = n.ts AND bars.frequency = $frequency;

INSERT INTO rejected_bars
SELECT r.symbol, r.date, r.open, r.high, r.low, r.close, r.volume, r.amount, r.session, $frequency, r.file, r.row_number,
       r.received, r.rule, concat_ws(': ', r.detail, why.reason), c.source, c.sha256, c.fetched_at, $batch
FROM read_parquet($rejected, hive_partitioning = false) AS r
JOIN contributed AS c ON c.number = r.payload
JOIN reasons AS why ON why.rule = r.rule;

INSERT INTO payloads
SELECT c.sha256, c.source, c.request, c.file, c.received,
       coalesce(k.rows, 0), c.received - c.rejected - coalesce(k.rows, 0), c.rejected, c.fetched_at, $batch, $frequency,
       c.aggregated
FROM contributed AS c LEFT JOIN kept_rows AS k ON k.payload = c.number
WHERE NOT c.reread;

-- Rows of earlier batches that nothing conflicts with any more.
CREATE TEMP TABLE freed_rows AS
SELECT c.batch, c.request, c.file, unnest(coalesce(i.parts, [i.row])) AS row_number, i.row AS bar_row, c.number
FROM compared AS i JOIN contributed AS c ON c.number = i.payload WHERE i.freed;

DELETE FROM rejected_bars USING freed_rows AS f
WHERE rejected_bars.batch = f.batch AND rejected_bars.file = f.file AND rejected_bars.row_number = f.row_number;

UPDATE payloads SET rejected = payloads.rejected - f.rows, kept = payloads.kept + f.kept,
                    folded = payloads.folded + f.rows - f.kept,
                    aggregated = payloads.aggregated + f.aggregated
FROM (
    SELECT f.batch, f.request, count(*) AS rows, count(*) - count(DISTINCT f.bar_row) AS aggregated, coalesce(any_value(k.rows), 0) AS kept
    FROM freed_rows AS f LEFT JOIN kept_rows AS k ON k.payload = f.number
    GROUP BY f.batch, f.request
) AS f
WHERE payloads.batch = f.batch AND payloads.request = f.request;
