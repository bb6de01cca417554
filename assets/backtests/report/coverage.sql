SELECT b.symbol, min(b.session)::VARCHAR AS first, max(b.session)::VARCHAR AS last,
       count(DISTINCT b.session) AS sessions, count(*) AS bars, count(*) FILTER (WHERE len(b.flags) > 0) AS flagged,
       any_value(coalesce(a.splits, 0)) AS splits, any_value(coalesce(a.dividends, 0)) AS dividends
FROM bars b
LEFT JOIN (SELECT symbol, count(*) FILTER (WHERE kind = 'split') AS splits,
                  count(*) FILTER (WHERE kind = 'dividend') AS dividends
           FROM corporate_actions GROUP BY symbol) a USING (symbol)
WHERE b.frequency = $frequency AND ($symbols IS NULL OR list_contains($symbols, b.symbol))
GROUP BY b.symbol ORDER BY b.symbol
