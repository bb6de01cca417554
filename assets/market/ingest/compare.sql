-- What the rows of a batch are to the warehouse: new, changed, repeated, or no longer contained in their file. Reads only.
-- Temporary tables that exist already:
--   incoming       accepted rows; folded: repeats a row of another payload; freed: was rejected when it was first read
--   contributed    payloads, numbered; removed: the file is gone; reread: of an earlier batch; shared: same content twice
--   rejected_rows  rule and key of every rejected row
-- {same_…}, {news_…}: conditions on the values of two rows (revisions.py).

-- Keys where the calendar has no bar.
CREATE TEMP TABLE misplaced AS
SELECT symbol, ts, min(payload) AS payload FROM rejected_rows
WHERE rule IN ('before_the_calendar', 'not_a_session', 'outside_hours', 'off_the_grid')
GROUP BY symbol, ts;

-- Earlier payloads of the contributed requests, by what a bar holds of its payload.
CREATE TEMP TABLE earlier AS
SELECT p.batch, p.payload_sha256, p.request, c.number
FROM payloads AS p JOIN contributed AS c ON c.request = p.request
WHERE p.frequency = $frequency;

-- same: as the current bar; own: the current bar is from an earlier payload of the same request.
CREATE TEMP TABLE compared AS
SELECT i.*, b.symbol IS NOT NULL AS stored, b.symbol IS NOT NULL AND coalesce({same_as_bar}, false) AS same,
       e.number IS NOT NULL AS own
FROM incoming AS i
LEFT JOIN bars AS b ON b.symbol = i.symbol AND b.ts = i.ts AND b.frequency = $frequency
LEFT JOIN earlier AS e ON e.batch = b.batch AND e.payload_sha256 = b.payload_sha256 AND e.number = i.payload;

-- Versions of a request that its new payload does not contain. A rejected row withdraws nothing, and neither does a
-- range that is fetched again: providers leave rows out now and then.
CREATE TEMP TABLE missing AS
WITH latest AS (
    SELECT symbol, ts, request, withdrawn FROM bar_versions SEMI JOIN contributed USING (request)
    WHERE frequency = $frequency
    QUALIFY row_number() OVER (PARTITION BY symbol, ts, request ORDER BY recorded DESC) = 1
),
held AS (
    SELECT symbol, ts, request FROM latest WHERE NOT withdrawn
    UNION ALL
    SELECT b.symbol, b.ts, e.request
    FROM bars AS b
    JOIN earlier AS e ON e.batch = b.batch AND e.payload_sha256 = b.payload_sha256
    ANTI JOIN bar_versions AS v ON v.symbol = b.symbol AND v.ts = b.ts AND v.frequency = b.frequency
    WHERE b.frequency = $frequency
)
SELECT h.symbol, h.ts, h.request, c.number AS payload, c.removed
FROM held AS h
JOIN contributed AS c ON c.request = h.request AND NOT c.by_range AND NOT c.reread
ANTI JOIN compared AS i ON i.symbol = h.symbol AND i.ts = h.ts AND i.payload = c.number
ANTI JOIN (FROM rejected_rows ANTI JOIN misplaced USING (symbol, ts)) AS r ON r.symbol = h.symbol AND r.ts = h.ts;

-- Bars that only another calendar had: no request's version counts any more.
CREATE TEMP TABLE displaced AS
SELECT m.symbol, m.ts, m.payload
FROM misplaced AS m
JOIN contributed AS c ON c.number = m.payload
JOIN bars AS b ON b.symbol = m.symbol AND b.ts = m.ts AND b.frequency = $frequency AND b.source = c.source
LEFT JOIN (SELECT DISTINCT symbol, ts FROM missing) AS w ON w.symbol = m.symbol AND w.ts = m.ts
WHERE c.by_range OR w.symbol IS NOT NULL;

-- Keys with more than one request or version, after this batch if not before; payload: what changes them.
CREATE TEMP TABLE keys AS
SELECT symbol, ts, min(payload) AS payload
FROM (
    SELECT symbol, ts, payload FROM compared WHERE folded OR stored AND NOT (same AND own)
    UNION ALL
    -- A row that is read again may equal one of the batch.
    SELECT symbol, ts, min(payload) FROM compared GROUP BY symbol, ts HAVING count(*) > 1
    UNION ALL
    SELECT i.symbol, i.ts, i.payload FROM compared AS i JOIN contributed AS c ON c.number = i.payload WHERE c.shared
    UNION ALL
    SELECT i.symbol, i.ts, i.payload
    FROM compared AS i
    SEMI JOIN (FROM bar_versions WHERE frequency = $frequency) AS v ON v.symbol = i.symbol AND v.ts = i.ts
    WHERE NOT i.stored
    UNION ALL
    SELECT symbol, ts, payload FROM missing
    UNION ALL
    SELECT symbol, ts, payload FROM displaced
)
GROUP BY symbol, ts;

-- Bars that were their own and only version until now.
CREATE TEMP TABLE promoted AS
SELECT b.* EXCLUDE (flags), list_contains(b.flags, 'incomplete') AS incomplete, p.request, b.batch AS since, b.batch AS recorded, false AS folded, false AS withdrawn
FROM bars AS b
SEMI JOIN keys AS k ON k.symbol = b.symbol AND k.ts = b.ts
ANTI JOIN bar_versions AS v ON v.symbol = b.symbol AND v.ts = b.ts AND v.frequency = b.frequency
JOIN payloads AS p ON p.batch = b.batch AND p.payload_sha256 = b.payload_sha256 AND p.frequency = b.frequency
WHERE b.frequency = $frequency;

-- The versions that count before this batch: the latest of each request, unless it withdrew the bar.
CREATE TEMP TABLE live AS
FROM (
    FROM bar_versions SEMI JOIN keys USING (symbol, ts)
    WHERE frequency = $frequency
    QUALIFY row_number() OVER (PARTITION BY symbol, ts, request ORDER BY recorded DESC) = 1
) WHERE NOT withdrawn
UNION ALL BY NAME
FROM promoted;

-- New versions. One that repeats the current bar is as old as the bar: it never wins over it, and it stands in for it
-- when the bar's own request withdraws. A range that is fetched again is the newest answer of its provider, so it is
-- compared with the bar rather than with its own earlier version.
CREATE TEMP TABLE added AS
WITH current AS (
    SELECT l.symbol, l.ts, max(l.since) AS since, any_value(b.available_at) AS available_at
    FROM live AS l JOIN bars AS b ON b.symbol = l.symbol AND b.ts = l.ts AND b.frequency = $frequency
    GROUP BY l.symbol, l.ts
),
paired AS (
    SELECT i.*, c.request, c.source, c.sha256 AS payload_sha256, c.batch, c.fetched_at, c.reread AND NOT i.freed AS rederived,
           o.since AS own_since, o.batch AS own_batch, o.folded AS own_folded,
           first_value(c.fetched_at) OVER (PARTITION BY i.symbol, i.ts ORDER BY i.folded, i.payload) AS first_fetched_at,
           b.since AS bar_since, b.available_at AS bar_available_at,
           coalesce({same_as_own}, false) AND NOT (c.by_range AND NOT i.same) AS unchanged,
           coalesce({news_to_own}, false) AS news
    FROM compared AS i
    SEMI JOIN keys AS k ON k.symbol = i.symbol AND k.ts = i.ts
    JOIN contributed AS c ON c.number = i.payload
    LEFT JOIN live AS o ON o.symbol = i.symbol AND o.ts = i.ts AND o.request = c.request
    LEFT JOIN current AS b ON b.symbol = i.symbol AND b.ts = i.ts
)
SELECT payload, row, symbol, ts, session, $frequency AS frequency, open, high, low, close, volume, amount,
       dividend, split, actions, incomplete, parts, source, request, payload_sha256, batch,
       CASE WHEN rederived OR unchanged AND NOT own THEN own_since
            WHEN same THEN bar_since
            ELSE batch END AS since,
       CASE WHEN same THEN bar_available_at WHEN folded THEN first_fetched_at ELSE fetched_at END AS available_at,
       CASE WHEN rederived THEN own_folded WHEN unchanged THEN NOT own ELSE same OR folded END AS folded,
       freed, rederived, $batch::BIGINT AS recorded, false AS withdrawn
FROM paired
WHERE (NOT unchanged OR news) AND (NOT rederived OR own_batch = batch);
