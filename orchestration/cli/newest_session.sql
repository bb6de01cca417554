SELECT max(session) FILTER (wanted) AS newest, count(*) FILTER (wanted) AS bars,
       coalesce(array_agg(DISTINCT symbol ORDER BY symbol), []) AS stored
FROM (
    SELECT symbol, session, $symbols IS NULL OR list_contains($symbols, symbol) AS wanted
    FROM bars
    WHERE frequency = $frequency AND {own_bars} AND session BETWEEN $first AND $last
)
