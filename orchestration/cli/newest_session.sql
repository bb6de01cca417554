SELECT max(session) AS newest, count(*) AS bars
FROM bars
WHERE frequency = $frequency
  AND session BETWEEN $first AND $last
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
