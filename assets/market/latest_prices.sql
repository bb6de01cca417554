SELECT symbol, max(ts) AS ts, arg_max(close, ts) AS close, arg_max(volume, ts) AS volume,
       count(*) AS bars, min(ts) AS since, any_value(source) AS source
FROM bars
WHERE frequency = $frequency
GROUP BY symbol
ORDER BY symbol
