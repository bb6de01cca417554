-- By window of time, from an origin to its last target: a number that changes with the closes and actions inside.
-- Registered: `windows` (origin, last). A session of an eastern exchange begins on the day before in UTC.
WITH closes AS (
    SELECT w.origin, bit_xor(hash(b.symbol, b.ts, b.close)) AS content
    FROM bars b JOIN windows w ON b.ts >= w.origin AND b.ts <= w.last
    WHERE b.frequency = $frequency GROUP BY w.origin
), actions AS (
    SELECT w.origin, bit_xor(hash(a.symbol, a.ex_date, a.kind, a.value, a.price_factor)) AS content
    FROM corporate_actions a JOIN windows w ON a.ex_date >= w.origin::DATE AND a.ex_date <= w.last::DATE + 1
    GROUP BY w.origin
)
SELECT w.origin, hash(coalesce(c.content, 0), coalesce(a.content, 0)) AS bars
FROM windows w LEFT JOIN closes c ON c.origin = w.origin LEFT JOIN actions a ON a.origin = w.origin
