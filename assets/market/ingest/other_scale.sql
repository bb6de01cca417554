-- Closes of a batch beside those of the same symbol that are stored, or that another payload of the batch has, on the
-- same session or up to a week before or after, at any frequency. Rows: payload, symbol, the other file, the median
-- ratio, number of pairs, a session. $requests: those of the batch, whose own bars may be of another scale.
WITH closes AS (
    SELECT payload, symbol, session, arg_max(close, ts) AS close
    FROM read_parquet($accepted) GROUP BY ALL
),
incoming AS (
    FROM closes
    -- The newest and the oldest sessions are enough, and cheap.
    QUALIFY row_number() OVER (PARTITION BY payload, symbol ORDER BY session DESC) <= 50
         OR row_number() OVER (PARTITION BY payload, symbol ORDER BY session) <= 50
),
others AS (
    SELECT b.symbol, b.session, arg_max(b.close, b.ts) AS close, any_value(p.file) AS file, -1 AS payload
    FROM bars AS b
    JOIN payloads AS p ON p.batch = b.batch AND p.payload_sha256 = b.payload_sha256 AND p.frequency = b.frequency
    SEMI JOIN incoming AS i ON i.symbol = b.symbol
    WHERE NOT list_contains($requests, p.request)
    GROUP BY b.symbol, b.session
    UNION ALL
    SELECT symbol, session, close, list_extract($files, payload + 1), payload FROM closes
    SEMI JOIN (SELECT symbol FROM closes GROUP BY symbol HAVING count(DISTINCT payload) > 1) USING (symbol)
),
pairs AS (
    SELECT i.payload, i.symbol, i.session, o.file, i.close / o.close AS ratio
    FROM incoming AS i JOIN others AS o
        ON o.symbol = i.symbol AND o.payload < i.payload AND o.session BETWEEN i.session - 7 AND i.session + 7
    QUALIFY row_number() OVER (
        PARTITION BY i.payload, i.symbol, i.session, o.file ORDER BY abs(o.session - i.session), o.session
    ) = 1
)
SELECT payload, symbol, file, median(ratio), count(*), min(session)::VARCHAR
FROM pairs
GROUP BY payload, symbol, file
HAVING abs(round(log10(median(ratio)))) BETWEEN 1 AND 4
   AND abs(log10(median(ratio)) - round(log10(median(ratio)))) < $tolerance
ORDER BY payload, symbol, file;
