-- What a judged batch changes in the warehouse, inside the transaction that will change it. Made before this runs: the temporary tables
--   incoming   rows kept by the contract    contributed  the batch's payloads, numbered; removed: the file is gone, and the payload empty
--   misplaced  keys of rows where the batch's calendar has no bar
--   mentioned  keys that the payloads have a word about: rows kept, and rejected ones that are not misplaced
-- In braces: the condition that the rows i and b say the same bar (ingest.py).

-- What each incoming row is to the bars that are there.
CREATE TEMP TABLE fate AS
SELECT i.*, b.symbol IS NOT NULL AS stored, b.symbol IS NOT NULL AND {same} AS same
FROM incoming AS i LEFT JOIN bars AS b ON b.symbol = i.symbol AND b.ts = i.ts AND b.frequency = $frequency;

-- Bars that another request put right, and about which a revised request speaks again: perhaps nothing new.
CREATE TEMP TABLE contested AS
SELECT f.symbol, f.ts, c.request
FROM (SELECT * FROM fate WHERE stored AND NOT same) AS f
JOIN contributed AS c ON c.number = f.payload AND NOT c.by_range
JOIN bars AS b ON b.symbol = f.symbol AND b.ts = f.ts AND b.frequency = $frequency
ANTI JOIN payloads AS own
    ON own.batch = b.batch AND own.payload_sha256 = b.payload_sha256 AND own.request = c.request
SEMI JOIN (SELECT request FROM payloads WHERE frequency = $frequency) AS earlier ON earlier.request = c.request;

-- Bars of a revised request about which its new payload has no word; told_by: another payload of the batch that has one.
CREATE TEMP TABLE unsaid AS
SELECT b.symbol, b.ts, c.number AS payload, m.payload AS told_by
FROM bars AS b
JOIN payloads AS earlier ON earlier.batch = b.batch AND earlier.payload_sha256 = b.payload_sha256
JOIN contributed AS c ON c.request = earlier.request AND NOT c.by_range
LEFT JOIN mentioned AS m ON m.symbol = b.symbol AND m.ts = b.ts
WHERE b.frequency = $frequency AND m.payload IS DISTINCT FROM c.number;

-- A revision withdraws what the request's earlier payloads gave and nobody in the batch has a word about. A range that
-- is asked again withdraws nothing but what the calendar turns out not to have.
CREATE TEMP TABLE gone AS
SELECT symbol, ts, min(payload) AS payload
FROM (SELECT symbol, ts, payload FROM unsaid WHERE told_by IS NULL
      UNION ALL
      SELECT b.symbol, b.ts, m.payload
      FROM bars AS b JOIN misplaced AS m ON m.symbol = b.symbol AND m.ts = b.ts
      JOIN contributed AS c ON c.number = m.payload AND c.by_range AND c.source = b.source
      WHERE b.frequency = $frequency)
GROUP BY symbol, ts;

-- Bars that are another payload's from now on, which can then withdraw them; old_…: whose they were. To begin with, those
-- of a file that was renamed, or that gave its rows to another.
CREATE TEMP TABLE passed_on AS
SELECT f.symbol, f.ts, $batch::BIGINT AS batch, w.sha256, w.request, f.row, b.batch AS old_batch,
       b.payload_sha256 AS old_sha256, arg_max(p.request, p.kept) AS old_request
FROM (SELECT DISTINCT symbol, ts, told_by FROM unsaid WHERE told_by IS NOT NULL) AS u
JOIN fate AS f ON f.symbol = u.symbol AND f.ts = u.ts AND f.payload = u.told_by AND f.same
JOIN contributed AS w ON w.number = f.payload
JOIN bars AS b ON b.symbol = f.symbol AND b.ts = f.ts AND b.frequency = $frequency
JOIN payloads AS p ON p.batch = b.batch AND p.payload_sha256 = b.payload_sha256
LEFT JOIN contributed AS c ON c.request = p.request
GROUP BY ALL
-- Files of one content are one to a bar: as long as one of them stays as it is, it gives the bar.
HAVING count(*) = count(c.request) AND NOT bool_or(p.request = w.request);
