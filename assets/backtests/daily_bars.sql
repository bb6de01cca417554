SELECT a.symbol, a.session,
       arg_min(b.open * a.growth, a.ts)  AS open,
       max(b.high * a.growth)            AS high,
       min(b.low * a.growth)             AS low,
       arg_max(b.close * a.growth, a.ts) AS close,
       sum(b.volume)                     AS volume,
       arg_max(a.growth, a.ts)           AS factor
FROM adjusted_bars a
JOIN bars b ON b.symbol = a.symbol AND b.ts = a.ts AND b.frequency = a.frequency
WHERE a.frequency = $frequency
GROUP BY a.symbol, a.session
ORDER BY a.symbol, a.session
