-- received, folded, rejected and aggregated rows per payload.
WITH outcomes AS (
    SELECT payload, count(*) FILTER (outcome = 'folded') AS folded,
           count(*) FILTER (outcome = 'conflicting_duplicate') AS conflicting
    FROM duplicates GROUP BY payload
),
aggregated AS (SELECT payload, count(*) AS rows FROM absorbed GROUP BY payload)
SELECT p.number, count(v.row) + coalesce(any_value(a.rows), 0) AS received,
       coalesce(any_value(o.folded), 0) + coalesce(any_value(a.rows), 0) AS folded,
       count(v.row) FILTER (v.rule IS NOT NULL) + coalesce(any_value(o.conflicting), 0) AS rejected,
       coalesce(any_value(a.rows), 0) AS aggregated
FROM payloads AS p
LEFT JOIN validated AS v ON v.payload = p.number
LEFT JOIN outcomes AS o ON o.payload = p.number
LEFT JOIN aggregated AS a ON a.payload = p.number
GROUP BY p.number ORDER BY p.number;
