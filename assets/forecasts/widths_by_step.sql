-- By step: the mean width of the widest band of the close, as the log of its upper over its lower end.
SELECT model, checkpoint, step, avg(ln(upper / lower)) AS width, count(*) AS n FROM (
    SELECT model, checkpoint, symbol, origin, step, max(value) AS upper, min(value) AS lower
    FROM forecast_quantiles WHERE {range} AND field = 'close' GROUP BY ALL
)
GROUP BY model, checkpoint, step ORDER BY step
