SELECT flag, count(*) AS bars, count(DISTINCT symbol) AS symbols, min(session) AS first, max(session) AS last
FROM (SELECT unnest(flags) AS flag, symbol, session FROM bars WHERE frequency = $frequency)
GROUP BY flag
ORDER BY bars DESC, flag
