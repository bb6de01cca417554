-- Accepted rows of several payloads, put together: one row per bar, and no action is lost silently. Runs after derive.sql
-- or as_received.sql.

-- Equal rows of several payloads are folded into the one with the best knowledge of actions, the first of those.
UPDATE duplicates SET outcome = 'folded'
FROM (
    SELECT k.payload, k.row
    FROM accepted AS k SEMI JOIN duplicates AS d ON d.payload = k.payload AND d.row = k.row
    QUALIFY row_number() OVER (
        PARTITION BY k.symbol, k.ts
        ORDER BY k.actions IS NULL OR k.actions = 'unknown', k.actions LIKE '%unknown', k.actions LIKE 'derived%',
                 (k.dividend IS NULL)::INTEGER + (k.split IS NULL)::INTEGER, k.payload, k.row) > 1
) AS f
WHERE duplicates.payload = f.payload AND duplicates.row = f.row;

UPDATE accepted SET folded = true FROM duplicates AS d
WHERE d.outcome = 'folded' AND accepted.payload = d.payload AND accepted.row = d.row;

-- A rejected row may have stated an action: where no accepted row of its session does, the next bar's are unknown.
CREATE TEMP TABLE unstated AS
SELECT DISTINCT l.symbol, l.ts
FROM (
    SELECT v.symbol, v.ts, v.session
    FROM validated AS v LEFT JOIN duplicates AS d ON d.payload = v.payload AND d.row = v.row
    WHERE v.acts AND (v.rule IS NOT NULL OR d.outcome = 'conflicting_duplicate')
) AS l
ANTI JOIN (SELECT symbol, session FROM accepted WHERE NOT folded AND (dividend > 0 OR split <> 1)) AS t
    ON t.symbol = l.symbol AND t.session = l.session
WHERE l.symbol IS NOT NULL AND l.ts IS NOT NULL;

UPDATE accepted SET actions = concat_ws(', ', accepted.actions, 'unknown')
FROM (
    SELECT DISTINCT u.symbol, k.ts
    FROM unstated AS u ASOF JOIN (FROM accepted SEMI JOIN unstated USING (symbol) WHERE NOT folded) AS k ON k.symbol = u.symbol AND u.ts <= k.ts
) AS n
WHERE accepted.symbol = n.symbol AND accepted.ts = n.ts AND NOT coalesce(suffix(accepted.actions, 'unknown'), false);
