-- What a judged batch changes in the warehouse, inside the transaction that will change it. Made before this runs: the temporary tables
--   incoming  rows kept by the contract    mentioned  the keys that the batch has a word about, rejected ones too
--   contributed  the batch's payloads, numbered; removed: the file is gone, and the payload empty
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

-- A revision of a request withdraws what the request's earlier payloads gave and this one has no word about.
CREATE TEMP TABLE gone AS
SELECT b.symbol, b.ts, min(c.number) AS payload
FROM bars AS b
JOIN payloads AS earlier ON earlier.batch = b.batch AND earlier.payload_sha256 = b.payload_sha256
JOIN contributed AS c ON c.request = earlier.request AND NOT c.by_range
LEFT JOIN mentioned AS m ON m.symbol = b.symbol AND m.ts = b.ts
WHERE b.frequency = $frequency AND m.symbol IS NULL
GROUP BY b.symbol, b.ts;
