SELECT symbol, ts,
       CASE WHEN NOT (isfinite(open) AND isfinite(high) AND isfinite(low) AND isfinite(close))
            THEN 'a price is not finite'
            WHEN low <= 0 THEN 'a price is not positive'
            WHEN low > least(open, close) OR high < greatest(open, close) THEN 'open or close outside low … high'
            WHEN volume < 0 OR amount < 0 THEN 'negative volume or amount' END AS violation
FROM bars
WHERE frequency = $frequency AND violation IS NOT NULL
ORDER BY symbol, ts
LIMIT 20
