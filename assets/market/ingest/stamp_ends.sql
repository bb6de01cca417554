-- Whether the timestamps of a payload end their bars: how often the beginning and the end of a session or of its part
-- before a break is there, where no bar begins at that end. Rows: payload, starts, ends, an example of an end.
WITH edges AS (
    SELECT opens_at AS ts, closes_at,
           opens_at IS DISTINCT FROM lag(closes_at) OVER (ORDER BY opens_at) AS begins,
           closes_at IS DISTINCT FROM lead(opens_at) OVER (ORDER BY opens_at) AS ends
    FROM bar_spans
),
stamps AS (
    SELECT DISTINCT payload, coalesce(instant, timezone('UTC', timezone($zone, local))) AS ts,
           coalesce(local, instant) AS written
    FROM received WHERE NOT left_out
),
starts AS (SELECT s.payload, count(*) AS starts FROM stamps AS s JOIN edges AS e ON e.begins AND e.ts = s.ts GROUP BY ALL),
ends AS (
    SELECT s.payload, count(*) AS ends, min(s.written) AS example
    FROM stamps AS s JOIN edges AS e ON e.ends AND e.closes_at = s.ts
    -- A single row at the end of a session is a stray one.
    SEMI JOIN (SELECT payload, written::DATE AS day FROM stamps GROUP BY ALL HAVING count(*) > 1) AS d
        ON d.payload = s.payload AND d.day = s.written::DATE
    GROUP BY ALL
),
fits AS (
    SELECT s.payload, count(g.ts) AS begun, count(e.closes_at) AS ended
    FROM stamps AS s LEFT JOIN (SELECT DISTINCT opens_at AS ts FROM bar_spans) AS g ON g.ts = s.ts
    LEFT JOIN (SELECT DISTINCT closes_at FROM bar_spans) AS e
        ON e.closes_at = s.ts
    GROUP BY ALL
)
SELECT payload, coalesce(starts, 0), ends, strftime(example, '%Y-%m-%d %H:%M')
FROM ends LEFT JOIN starts USING (payload) JOIN fits USING (payload)
WHERE ended > begun;
