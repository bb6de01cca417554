SELECT a.symbol, a.session,
       arg_min(a.open, a.ts)  AS open,
       max(a.high)            AS high,
       min(a.low)             AS low,
       arg_max(a.close, a.ts) AS close,
       sum(b.volume)          AS volume,
       arg_max(a.growth, a.ts) AS growth
FROM adjusted_bars a
JOIN bars b ON b.symbol = a.symbol AND b.ts = a.ts AND b.frequency = a.frequency
WHERE a.frequency = $frequency
GROUP BY a.symbol, a.session
ORDER BY a.symbol, a.session
