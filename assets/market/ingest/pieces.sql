-- The bar that holds each finer row, or the rule that the row breaks. Temporary tables that exist already:
--   periods        payloads of a finer frequency
--   bar_spans      the times of every bar: ts, opens_at, closes_at; two rows for a day with a break
--   trading_hours  the parts of every session

-- Times of uninterrupted trading: sessions that follow each other without a pause are one.
CREATE TEMP TABLE runs AS
WITH marked AS (
    SELECT opens_at, closes_at,
           sum((opens_at IS DISTINCT FROM before)::INTEGER) OVER (ORDER BY opens_at) AS run
    FROM (SELECT opens_at, closes_at, lag(closes_at) OVER (ORDER BY opens_at) AS before FROM trading_hours)
)
SELECT min(opens_at) AS begins, max(closes_at) AS ends FROM marked GROUP BY run;

CREATE TEMP TABLE spans AS
SELECT s.*, r.begins, r.ends, epoch_us(r.begins) AS own_base,
       -- Bars may also begin at the full hours of the exchange's clock.
       epoch_us(r.begins) - epoch_us(timezone($exchange, timezone('UTC', r.begins))) AS clock_base
FROM bar_spans AS s ASOF JOIN runs AS r ON s.opens_at >= r.begins
WHERE EXISTS (SELECT 1 FROM periods);

-- A row at the end of its bar belongs to it where timestamps end their bars.
CREATE TEMP TABLE placed_rows AS
SELECT i.payload, i.row, i.stamp, i.us, s.* EXCLUDE (ts), CASE WHEN i.inner_stamp < s.closes_at THEN s.ts END AS ts
FROM (
    SELECT r.payload, r.row, p.us, coalesce(r.instant, timezone('UTC', timezone($zone, r.local))) AS stamp,
           stamp - CASE WHEN $ends_finer THEN INTERVAL 1 MICROSECOND ELSE INTERVAL 0 MICROSECOND END AS inner_stamp
    FROM received AS r JOIN periods AS p USING (payload)
    WHERE stamp IS NOT NULL
) AS i ASOF LEFT JOIN spans AS s ON i.inner_stamp >= s.opens_at;

CREATE TEMP TABLE anchors AS
SELECT payload, us,
       count(*) FILTER ((epoch_us(stamp) - own_base) % us = 0) >= count(*) FILTER ((epoch_us(stamp) - clock_base) % us = 0)
           AS own
FROM placed_rows WHERE ts IS NOT NULL GROUP BY payload, us;

CREATE TEMP TABLE pieces AS
SELECT p.payload, p.row, p.stamp, p.ts,
       CASE WHEN p.ts IS NULL AND p.stamp < $calendar_starts THEN 'before_the_calendar'
            WHEN p.ts IS NULL AND d.session IS NULL THEN 'not_a_session'
            WHEN p.ts IS NULL THEN 'outside_hours'
            -- The first and the last row of uninterrupted trading may be shorter.
            WHEN (epoch_us(p.stamp) - CASE WHEN a.own THEN p.own_base ELSE p.clock_base END) % p.us <> 0
                 AND p.stamp <> CASE WHEN $ends_finer THEN p.ends ELSE p.begins END THEN 'off_the_grid'
            WHEN NOT $ends_finer AND p.closes_at < p.ends AND epoch_us(p.stamp) + p.us > epoch_us(p.closes_at)
                 OR $ends_finer AND p.opens_at > p.begins AND epoch_us(p.stamp) - p.us < epoch_us(p.opens_at)
                 THEN 'crosses_bars'
       END AS rule
FROM placed_rows AS p
LEFT JOIN anchors AS a USING (payload)
LEFT JOIN exchange_days AS d ON d.session = timezone($exchange, timezone('UTC', p.stamp))::DATE;

-- Rows that a bar has when it is complete.
CREATE TEMP TABLE expected AS
SELECT t.payload, t.ts,
       sum((epoch_us(s.closes_at) - base + k.us - 1) // k.us - (epoch_us(s.opens_at) - base) // k.us)::BIGINT AS rows
FROM (SELECT DISTINCT payload, ts FROM pieces WHERE ts IS NOT NULL) AS t
JOIN anchors AS k USING (payload)
JOIN (SELECT *, true AS own, own_base AS base FROM spans UNION ALL SELECT *, false, clock_base FROM spans) AS s
    ON s.ts = t.ts AND s.own = k.own
GROUP BY t.payload, t.ts;
