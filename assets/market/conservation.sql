-- Rows per payload as ingest counted them, and the rejected rows that are stored.
SELECT p.batch, p.request, p.file, p.received, p.kept, p.folded, p.rejected,
       coalesce(r.stored, 0) AS stored_rejected
FROM payloads AS p
LEFT JOIN (SELECT batch, file, count(*) AS stored FROM rejected_bars GROUP BY batch, file) AS r
    ON r.batch = p.batch AND r.file = p.file
ORDER BY p.batch, p.request
