-- Kept rows of all payloads; bars with one version; and versions that their request has had since their batch and that
-- repeat no other request's. The first is the sum of the others.
WITH versions AS (
    SELECT DISTINCT symbol, ts, frequency, request, batch FROM bar_versions
    WHERE NOT folded AND NOT withdrawn AND since = batch
)
SELECT (SELECT coalesce(sum(kept), 0) FROM payloads)::BIGINT,
       (SELECT count(*) FROM bars ANTI JOIN bar_versions USING (symbol, ts, frequency)),
       (SELECT count(*) FROM versions);
