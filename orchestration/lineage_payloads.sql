-- Payloads. $used: only those that a bar of $symbols (null: all), up to $last, came from.
SELECT payload_sha256, source, file, received, kept, folded, aggregated, rejected, available_at
FROM payloads
WHERE NOT $used OR payload_sha256 IN (
    SELECT payload_sha256 FROM bars
    WHERE ($symbols IS NULL OR list_contains($symbols, symbol))
      AND ($last::TIMESTAMP IS NULL OR ts <= $last::TIMESTAMP)
)
ORDER BY available_at, file
