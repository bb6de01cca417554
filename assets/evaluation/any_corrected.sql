-- Whether a bar was added, corrected or withdrawn after a forecast was made whose origin is not before it: without one the
-- view made_from_corrected_bars, which takes the newest version over the context of every bar, is empty.
WITH newest AS (
    SELECT symbol, origin, min(min(made_at)) OVER (PARTITION BY symbol ORDER BY origin DESC) AS first_made
    FROM forecasts GROUP BY symbol, origin
)
SELECT EXISTS (FROM bar_versions WHERE withdrawn) OR EXISTS (
    FROM bars b ASOF JOIN newest n ON b.symbol = n.symbol AND b.ts <= n.origin WHERE b.available_at > n.first_made
)
