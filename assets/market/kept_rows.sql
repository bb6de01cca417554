-- A bar that was replaced and later restored, because its replacement was withdrawn, is stored once per time.
SELECT count(*) FROM (
    SELECT DISTINCT symbol, ts, frequency, batch, payload_sha256 FROM (
        SELECT symbol, ts, frequency, batch, payload_sha256 FROM bars
        UNION ALL
        SELECT symbol, ts, frequency, batch, payload_sha256 FROM superseded_bars
    )
)
