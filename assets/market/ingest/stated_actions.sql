-- Stated actions are compared with the adjusted close of the same rows, from one bar to the next. Runs after derive.sql or
-- as_received.sql. Below half a per cent, or the rounding of an adjusted close in cents, there is no warning.
UPDATE accepted SET actions = concat_ws(', ', accepted.actions, 'differs from adjusted close')
FROM (
    SELECT a.payload, a.row, v.adj_close / lag(v.adj_close) OVER before / (a.close / lag(a.close) OVER before) AS growth,
           1 / a.split - a.dividend / lag(a.close) OVER before AS paid,
           greatest(0.005, 0.006 * (1 / v.adj_close + 1 / lag(v.adj_close) OVER before)) AS noise
    FROM accepted AS a
    JOIN (SELECT payload, row, dividend IS NOT NULL AND split IS NOT NULL AS stated,
                 CASE WHEN adj_close > 0 THEN adj_close END AS adj_close FROM validated) AS v USING (payload, row)
    JOIN payloads AS p ON p.number = a.payload
    WHERE p.basis = 'raw'
    WINDOW before AS (PARTITION BY a.payload, a.symbol ORDER BY a.ts)
    QUALIFY v.stated
) AS d
WHERE accepted.payload = d.payload AND accepted.row = d.row AND abs(d.growth * d.paid - 1) > d.noise;
