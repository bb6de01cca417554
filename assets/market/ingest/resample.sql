-- Finer rows become one row per bar: the first row of each bar stays in `validated` with the bar's values, the others go
-- to `absorbed`. Runs after contract.sql.
CREATE TEMP TABLE parts AS
SELECT v.*, p.stamp FROM validated AS v JOIN pieces AS p ON p.payload = v.payload AND p.row = v.row WHERE v.rule IS NULL;

-- Rows at the same time: equal ones count once, unequal ones are all rejected.
CREATE TEMP TABLE repeated_parts AS
SELECT payload, symbol, stamp, min(row) AS row,
       count(DISTINCT hash(open, high, low, close, volume, amount, factor, adj_close)) = 1
           AND count(DISTINCT dividend) <= 1 AND count(DISTINCT split) <= 1 AS equal
FROM parts GROUP BY payload, symbol, stamp HAVING count(*) > 1;

UPDATE validated SET rule = 'conflicting_duplicate'
FROM parts AS p JOIN repeated_parts AS r USING (payload, symbol, stamp)
WHERE NOT r.equal AND validated.payload = p.payload AND validated.row = p.row;

CREATE TEMP TABLE single_parts AS
SELECT p.* FROM parts AS p LEFT JOIN repeated_parts AS r USING (payload, symbol, stamp)
WHERE r.row IS NULL OR r.equal AND r.row = p.row;

-- Sums in the order of time: the order of addition changes the last digit.
CREATE TEMP TABLE aggregates AS
SELECT payload, symbol, ts, arg_min(row, stamp) AS row, arg_min(open, stamp) AS open, max(high) AS high, min(low) AS low,
       arg_max(close, stamp) AS close,
       CASE WHEN count(volume) = count(*) THEN sum(volume ORDER BY stamp) END AS volume,
       CASE WHEN count(amount) = count(*) THEN sum(amount ORDER BY stamp) END AS amount,
       -- Repeated on every row of the day, or stated on one.
       max(dividend) AS dividend, coalesce(max(split) FILTER (split <> 1), max(split)) AS split,
       arg_max(adj_close, stamp) AS adj_close, arg_max(factor, stamp) AS factor, bool_or(acts) AS acts, count(*) AS found
FROM single_parts GROUP BY payload, symbol, ts;

CREATE TEMP TABLE absorbed AS
SELECT p.* EXCLUDE (stamp), a.row AS bar_row
FROM parts AS p
JOIN aggregates AS a USING (payload, symbol, ts)
LEFT JOIN repeated_parts AS r USING (payload, symbol, stamp)
WHERE p.row <> a.row AND coalesce(r.equal, true);

DELETE FROM validated USING absorbed AS s WHERE validated.payload = s.payload AND validated.row = s.row;

UPDATE validated SET open = a.open, high = a.high, low = a.low, close = a.close, volume = a.volume, amount = a.amount,
                     dividend = a.dividend, split = a.split, adj_close = a.adj_close, factor = a.factor, acts = a.acts
FROM aggregates AS a WHERE validated.payload = a.payload AND validated.row = a.row;
