-- Magnitudes that show a unit: amount ÷ (volume × price), and prices that are all whole hundreds above 100,000.
SELECT payload,
       median(amount / nullif(volume * (high + low) / 2, 0)) AS ratio,
       coalesce(bool_and(open % 100 = 0 AND high % 100 = 0 AND low % 100 = 0 AND close % 100 = 0), false)
           AND median(close) >= 1e5 AS whole,
       median(close) AS price
FROM received WHERE NOT left_out GROUP BY payload ORDER BY payload;
