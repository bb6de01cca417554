-- Payloads whose rows are of a finer frequency than bars: their most frequent distance, in microseconds, is at most half
-- a bar. gaps: how often it occurs; total: all distances of the payload.
CREATE TEMP TABLE periods AS
WITH timed AS (
    -- Dates without a time of day are bars of days.
    SELECT payload FROM received WHERE $daily GROUP BY payload
    HAVING count(DISTINCT coalesce(local, instant)::TIME) > 1
),
stamps AS (
    SELECT DISTINCT payload, symbol, coalesce(instant, timezone('UTC', timezone($zone, local))) AS stamp
    FROM received
    WHERE NOT coalesce(left_out, false) AND (NOT $daily OR payload IN (SELECT payload FROM timed))
),
distances AS (
    SELECT payload, epoch_us(stamp) - epoch_us(lag(stamp) OVER (PARTITION BY payload, symbol ORDER BY stamp)) AS us
    FROM stamps WHERE stamp IS NOT NULL
),
counted AS (
    SELECT payload, us, count(*) AS gaps, sum(count(*)) OVER (PARTITION BY payload)::BIGINT AS total
    FROM distances WHERE us IS NOT NULL GROUP BY payload, us
)
SELECT payload, us, gaps, total FROM counted
QUALIFY row_number() OVER (PARTITION BY payload ORDER BY gaps DESC, us) = 1 AND 2 * us <= $period;
