-- What a judged batch changes in the warehouse, inside the transaction that will change it. Made before this runs: the temporary tables
--   incoming  rows kept by the contract    mentioned  the keys that the batch has a word about, rejected ones too
--   contributed  the batch's payloads, numbered

-- What each incoming row is to the bars that are there.
CREATE TEMP TABLE fate AS
SELECT i.*, b.symbol IS NOT NULL AS stored,
       b.symbol IS NOT NULL
           AND i.open = b.open AND i.high = b.high AND i.low = b.low AND i.close = b.close
           AND i.volume IS NOT DISTINCT FROM b.volume AND i.amount IS NOT DISTINCT FROM b.amount
           -- Cash that was derived from an adjusted close differs in its last digits from one download to the next.
           AND (i.dividend IS NULL OR i.dividend = coalesce(b.dividend, 0)
                OR i.actions LIKE 'derived%' AND abs(i.dividend - coalesce(b.dividend, 0)) <= 1e-4 + 0.02 * i.dividend)
           AND (i.split IS NULL OR i.split = coalesce(b.split, 1)) AS same
FROM incoming AS i LEFT JOIN bars AS b ON b.symbol = i.symbol AND b.ts = i.ts AND b.frequency = $frequency;

-- A revision of a request withdraws what the request's earlier payloads gave and this one has no word about.
CREATE TEMP TABLE gone AS
SELECT b.symbol, b.ts, c.number AS payload
FROM bars AS b
JOIN payloads AS earlier ON earlier.batch = b.batch AND earlier.payload_sha256 = b.payload_sha256
JOIN contributed AS c ON c.request = earlier.request AND NOT c.by_range
LEFT JOIN mentioned AS m ON m.symbol = b.symbol AND m.ts = b.ts
WHERE b.frequency = $frequency AND m.symbol IS NULL;
