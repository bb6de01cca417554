-- Possible forecasts that no checkpoint made, and that the one in use did not fail to make from the present bars: one row
-- per asset, symbol and origin.
-- Registered: `origins` (origin, session), `models` (model, asset), `used` (model, checkpoint), `blocked` (model, origin),
-- `outdated` (model, symbol, origin), forecasts that count as not made.
WITH numbered AS (
    SELECT symbol, ts, row_number() OVER (PARTITION BY symbol ORDER BY ts) AS bars FROM bars
    WHERE frequency = $frequency AND ($symbols IS NULL OR list_contains($symbols, symbol))
      AND {own_bars}
), failed AS (
    SELECT x.model, x.symbol, x.origin FROM failed_forecasts x SEMI JOIN used USING (model, checkpoint)
    WHERE NOT EXISTS (
        FROM bars b
        WHERE b.symbol = x.symbol AND b.frequency = $frequency AND b.ts <= x.origin AND b.available_at > x.tried_at
    )
)
SELECT DISTINCT m.asset, o.session, n.symbol, o.origin
FROM numbered n JOIN origins o ON o.origin = n.ts CROSS JOIN models m
ANTI JOIN (FROM forecasts ANTI JOIN outdated USING (model, symbol, origin)) f
    ON f.model = m.model AND f.symbol = n.symbol AND f.origin = o.origin
ANTI JOIN blocked b ON b.model = m.model AND b.origin = o.origin
ANTI JOIN failed x ON x.model = m.model AND x.symbol = n.symbol AND x.origin = o.origin
WHERE n.bars >= $lookback
ORDER BY ALL
