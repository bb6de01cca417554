-- Rows of one key: equal ones are folded into one, unequal ones are all rejected. A row that does not state an action
-- contradicts none. Adjusted closes are compared within a payload: they differ from one download to the next.
CREATE TEMP TABLE repeated AS
SELECT v.symbol, v.ts,
       count(DISTINCT hash(open, high, low, close, volume, amount, factor)) = 1
           AND count(DISTINCT dividend) <= 1 AND count(DISTINCT split) <= 1
           AND count(DISTINCT (payload, hash(adj_close))) = count(DISTINCT payload) AS equal
FROM validated AS v
SEMI JOIN (SELECT symbol, ts FROM validated WHERE rule IS NULL GROUP BY symbol, ts HAVING count(*) > 1) AS k
    ON k.symbol = v.symbol AND k.ts = v.ts
WHERE v.rule IS NULL
GROUP BY v.symbol, v.ts;

-- Rows of one payload; those of several payloads are folded when their actions are known (fold.sql).
CREATE TEMP TABLE duplicates AS
SELECT v.payload, v.row,
       CASE WHEN NOT r.equal THEN 'conflicting_duplicate'
            WHEN row_number() OVER (PARTITION BY v.payload, v.symbol, v.ts
                                    ORDER BY (v.dividend IS NOT NULL)::INTEGER + (v.split IS NOT NULL)::INTEGER DESC,
                                             v.row) > 1 THEN 'folded' END AS outcome
FROM validated AS v JOIN repeated AS r USING (symbol, ts)
WHERE v.rule IS NULL;
