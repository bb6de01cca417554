-- Possible forecasts without a stored forecast or failure of any checkpoint: one row per asset, symbol and origin.
-- Registered: `origins` (origin, session), `models` (model, asset).
WITH numbered AS (
    SELECT symbol, ts, row_number() OVER (PARTITION BY symbol ORDER BY ts) AS bars FROM bars
    WHERE frequency = $frequency AND ($symbols IS NULL OR list_contains($symbols, symbol))
      AND {own_bars}
)
SELECT DISTINCT m.asset, o.session, n.symbol, o.origin
FROM numbered n JOIN origins o ON o.origin = n.ts CROSS JOIN models m
ANTI JOIN forecasts f ON f.model = m.model AND f.symbol = n.symbol AND f.origin = o.origin
ANTI JOIN failed_forecasts x ON x.model = m.model AND x.symbol = n.symbol AND x.origin = o.origin
WHERE n.bars >= $lookback
ORDER BY ALL
