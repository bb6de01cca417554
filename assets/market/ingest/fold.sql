-- What the batch's rows say of actions, put together: one row a bar, and no action lost unnoticed. After derive.sql, or
-- what contract.py does in its place.

-- Equal rows of several payloads are folded into the one that tells most, the first of those.
UPDATE sorted_out SET fate = 'folded'
FROM (
    SELECT k.payload, k.row
    FROM kept AS k SEMI JOIN sorted_out AS s ON s.payload = k.payload AND s.row = k.row
    QUALIFY row_number() OVER (
        PARTITION BY k.symbol, k.ts
        ORDER BY k.actions IS NULL OR k.actions = 'unknown', k.actions LIKE '%unknown', k.actions LIKE 'derived%',
                 (k.dividend IS NULL)::INTEGER + (k.split IS NULL)::INTEGER, k.payload, k.row) > 1
) AS f
WHERE sorted_out.payload = f.payload AND sorted_out.row = f.row;

DELETE FROM kept USING sorted_out AS s WHERE s.fate = 'folded' AND kept.payload = s.payload AND kept.row = s.row;

-- A rejected row may have told an action: where no kept bar of its session does, the next bar does not know.
CREATE OR REPLACE TEMP TABLE untold AS
SELECT DISTINCT l.symbol, l.ts
FROM (
    SELECT j.symbol, j.ts, j.session
    FROM judged AS j LEFT JOIN sorted_out AS s ON s.payload = j.payload AND s.row = j.row
    WHERE j.acts AND (j.rule IS NOT NULL OR s.fate = 'conflicting_duplicate')
) AS l
ANTI JOIN (SELECT symbol, session FROM kept WHERE dividend > 0 OR split <> 1) AS t
    ON t.symbol = l.symbol AND t.session = l.session
WHERE l.symbol IS NOT NULL AND l.ts IS NOT NULL;

UPDATE kept SET actions = concat_ws(', ', kept.actions, 'unknown')
FROM (
    SELECT DISTINCT u.symbol, k.ts
    FROM untold AS u ASOF JOIN (FROM kept SEMI JOIN untold USING (symbol)) AS k ON k.symbol = u.symbol AND u.ts <= k.ts
) AS n
WHERE kept.symbol = n.symbol AND kept.ts = n.ts AND NOT coalesce(suffix(kept.actions, 'unknown'), false);
