-- High and low of all bars of the settings' symbols.
SELECT ts, high, low
FROM bars
WHERE
    frequency = $frequency
    AND ($symbols IS NULL OR list_contains($symbols, symbol))
    AND {own_bars}
