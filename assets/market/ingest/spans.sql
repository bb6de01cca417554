-- Runs of days that hold rows: one odd date beside them must not ask for the bars of all the years between.
WITH days AS (
    SELECT DISTINCT greatest(least(ts, TIMESTAMP '2200-01-01'), TIMESTAMP '1800-01-01')::DATE AS day
    FROM (SELECT coalesce(instant, local) AS ts FROM received) WHERE ts IS NOT NULL
),
runs AS (
    SELECT day, sum((day - before > 30)::INTEGER) OVER (ORDER BY day) AS run
    FROM (SELECT day, lag(day) OVER (ORDER BY day) AS before FROM days)
)
SELECT min(day), max(day) FROM runs GROUP BY run ORDER BY 1;
