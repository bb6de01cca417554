-- Rows of earlier batches that were rejected because of another file of their batch, where that file is revised now.
-- Only of payloads that are still the newest of their request.
CREATE TEMP TABLE reopened AS
WITH newest AS (
    SELECT request, max(batch) AS batch, arg_max(file, batch) AS file FROM payloads
    WHERE frequency = $frequency GROUP BY request
),
revised AS (
    SELECT DISTINCT p.batch FROM payloads AS p JOIN contributed AS c ON c.request = p.request AND NOT c.by_range
)
SELECT n.request, n.batch, upper(r.symbol) AS symbol, r.row_number
FROM rejected_bars AS r
SEMI JOIN revised AS v ON v.batch = r.batch
JOIN newest AS n ON n.batch = r.batch AND n.file = r.file
ANTI JOIN contributed AS c ON c.request = n.request
WHERE r.rule IN ('conflicting_duplicate', 'symbol_in_other_case') AND r.frequency = $frequency;

-- Requests to read again: those of the rows, and others of their batch with the same symbols, which may conflict as well.
CREATE TEMP TABLE to_reread AS
WITH requests AS (
    SELECT request FROM reopened
    UNION
    SELECT p.request FROM payloads AS p
    JOIN bars AS b ON b.batch = p.batch AND b.payload_sha256 = p.payload_sha256 AND b.frequency = p.frequency
    SEMI JOIN reopened AS r ON r.batch = p.batch AND r.symbol = b.symbol
    ANTI JOIN contributed AS c ON c.request = p.request
    WHERE p.frequency = $frequency
    UNION
    SELECT v.request FROM bar_versions AS v
    SEMI JOIN reopened AS r ON r.batch = v.batch AND r.symbol = v.symbol
    ANTI JOIN contributed AS c ON c.request = v.request
    WHERE v.frequency = $frequency
)
SELECT request, max(batch) AS batch FROM payloads SEMI JOIN requests USING (request)
WHERE frequency = $frequency GROUP BY request HAVING max(batch) IN (SELECT batch FROM reopened);
