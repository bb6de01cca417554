-- Which version of each key is the bar after this batch, and what that changes. Reads only. Runs after compare.sql.

-- Requests whose file is gone: their bars stay while no other request has the key. (No rows of a range is no removal.)
CREATE TEMP TABLE orphans AS
SELECT request FROM payloads ANTI JOIN contributed USING (request)
WHERE frequency = $frequency AND NOT (SELECT coalesce(bool_or(by_range), false) FROM contributed)
GROUP BY request HAVING arg_max(received, batch) = 0;

CREATE TEMP TABLE candidates AS
SELECT v.*,
       coalesce(d.payload, m.payload, CASE WHEN o.request IS NOT NULL THEN k.payload END) AS gone_by,
       d.payload IS NULL AND (coalesce(m.removed, false) OR m.payload IS NULL AND o.request IS NOT NULL) AS removed,
       row_number() OVER (PARTITION BY v.symbol, v.ts ORDER BY v.since DESC, v.folded, v.batch, v.request) AS place
FROM (
    FROM live ANTI JOIN added USING (symbol, ts, request)
    UNION ALL BY NAME
    SELECT * EXCLUDE (payload, row, parts, freed, rederived) FROM added
) AS v
JOIN keys AS k ON k.symbol = v.symbol AND k.ts = v.ts
LEFT JOIN displaced AS d ON d.symbol = v.symbol AND d.ts = v.ts
LEFT JOIN missing AS m ON m.symbol = v.symbol AND m.ts = v.ts AND m.request = v.request
LEFT JOIN orphans AS o ON o.request = v.request;

-- The current version: the newest `since` among the requests that still contain the bar.
CREATE TEMP TABLE winners AS
FROM candidates WHERE gone_by IS NULL OR removed AND place = 1
QUALIFY row_number() OVER (PARTITION BY symbol, ts ORDER BY gone_by IS NOT NULL, place) = 1;

CREATE TEMP TABLE withdrawals AS
SELECT v.* EXCLUDE (gone_by, removed, place)
           REPLACE (c.sha256 AS payload_sha256, c.fetched_at AS available_at, $batch::BIGINT AS batch,
                    $batch::BIGINT AS since, $batch::BIGINT AS recorded, false AS folded, true AS withdrawn)
FROM candidates AS v
JOIN contributed AS c ON c.number = v.gone_by
ANTI JOIN winners AS w ON w.symbol = v.symbol AND w.ts = v.ts AND w.request = v.request;

-- stored: there is a bar already; same: it has the winner's values; restored: the winner is from an earlier batch.
CREATE TEMP TABLE decided AS
SELECT i.* EXCLUDE (gone_by, removed, place), b.symbol IS NOT NULL AS stored,
       b.symbol IS NOT NULL AND coalesce({same_as_bar}, false) AS same, i.recorded < $batch AS restored,
       (b.batch, b.payload_sha256) IS DISTINCT FROM (i.batch, i.payload_sha256) AS other_payload, c.fetched_at
FROM winners AS i
JOIN keys AS k ON k.symbol = i.symbol AND k.ts = i.ts
JOIN contributed AS c ON c.number = k.payload
LEFT JOIN bars AS b ON b.symbol = i.symbol AND b.ts = i.ts AND b.frequency = $frequency;

-- Versions that are the bar again: recorded once more, as known from now on, in the newest payload of their request.
CREATE TEMP TABLE restored AS
WITH newest AS (
    SELECT request, max(batch) AS batch, arg_max(sha256, batch) AS sha256
    FROM (SELECT request, batch, payload_sha256 AS sha256 FROM payloads WHERE frequency = $frequency
          UNION ALL
          SELECT request, batch, sha256 FROM contributed)
    GROUP BY request
)
SELECT d.* EXCLUDE (stored, same, restored, other_payload, fetched_at)
           REPLACE (n.sha256 AS payload_sha256, n.batch AS batch, d.fetched_at AS available_at,
                    $batch::BIGINT AS recorded)
FROM decided AS d JOIN newest AS n ON n.request = d.request
WHERE d.restored AND NOT d.same;

-- Bars to write.
CREATE TEMP VIEW fresh AS
SELECT * FROM compared AS i ANTI JOIN keys AS k ON k.symbol = i.symbol AND k.ts = i.ts WHERE NOT i.stored;

CREATE TEMP VIEW written AS
SELECT f.symbol, f.ts, f.session, f.open, f.high, f.low, f.close, f.volume, f.amount, f.dividend, f.split, f.actions, f.incomplete,
       c.source, c.sha256 AS payload_sha256, c.fetched_at AS available_at, c.batch
FROM fresh AS f JOIN contributed AS c ON c.number = f.payload
UNION ALL
SELECT symbol, ts, session, open, high, low, close, volume, amount, dividend, split, actions, incomplete,
       source, payload_sha256, available_at, batch
FROM (FROM restored
      UNION ALL BY NAME
      SELECT * EXCLUDE (stored, same, restored, other_payload, fetched_at) FROM decided WHERE NOT restored AND NOT same);

-- Bars that have the same values in another payload now, which can withdraw them.
CREATE TEMP VIEW passed_on AS
SELECT symbol, ts, payload_sha256, batch FROM decided WHERE same AND other_payload;

-- Bars that no request contains any more.
CREATE TEMP TABLE gone AS
SELECT b.symbol, b.ts, b.session
FROM bars AS b
SEMI JOIN keys AS k ON k.symbol = b.symbol AND k.ts = b.ts
ANTI JOIN winners AS w ON w.symbol = b.symbol AND w.ts = b.ts
WHERE b.frequency = $frequency;
