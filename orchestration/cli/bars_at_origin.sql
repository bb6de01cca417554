-- Per symbol: the number of bars up to the origin, and whether the last one is the origin's.
SELECT symbol, count(*) AS bars, max(ts) = $origin AS at_origin
FROM bars
WHERE frequency = $frequency
  AND ts <= $origin
  AND {own_bars}
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
GROUP BY symbol
ORDER BY symbol
