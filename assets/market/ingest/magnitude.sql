-- Magnitudes that show a unit: amount ÷ (volume × price), and prices that are all whole hundreds above 100,000, but for
-- symbols whose currency explains it.
WITH rows AS (FROM received SELECT *, regexp_full_match(symbol, $large) IS NOT TRUE AS ordinary WHERE NOT left_out)
SELECT payload,
       median(amount / nullif(volume * (high + low) / 2, 0)) AS ratio,
       coalesce(bool_and(open % 100 = 0 AND high % 100 = 0 AND low % 100 = 0 AND close % 100 = 0) FILTER (ordinary), false)
           AND median(close) FILTER (ordinary) >= 1e5 AS whole,
       median(close) FILTER (ordinary) AS price
FROM rows GROUP BY payload ORDER BY payload;
