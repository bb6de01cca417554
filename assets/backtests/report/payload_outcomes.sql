SELECT source, sum(received)::BIGINT AS received, sum(kept)::BIGINT AS kept, sum(folded)::BIGINT AS folded,
       sum(rejected)::BIGINT AS rejected
FROM payloads GROUP BY source ORDER BY source
