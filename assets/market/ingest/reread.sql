-- Rows of reread payloads join the batch: those that were freed, and the other rows of their symbol, whose actions may
-- be derived otherwise now. Temporary tables that exist already: contributed, with the reread payloads from $first on;
-- reread, their accepted rows; reopened; reread_rows; rejected_rows.
INSERT INTO reread_rows BY NAME
SELECT r.* REPLACE (r.payload + $first AS payload), o.row_number IS NOT NULL AS freed
FROM reread AS r
JOIN contributed AS c ON c.number = r.payload + $first
LEFT JOIN reopened AS o ON o.batch = c.batch AND o.request = c.request AND o.row_number = r.row
ANTI JOIN (
    FROM rejected_rows
    WHERE rule IN ('conflicting_duplicate', 'symbol_in_other_case',
                   'before_the_calendar', 'not_a_session', 'outside_hours', 'off_the_grid')
) AS n ON n.symbol = r.symbol AND n.ts = r.ts
ANTI JOIN (SELECT DISTINCT symbol, source FROM bars WHERE frequency = $frequency) AS b
    ON b.symbol = r.symbol AND b.source <> c.source
QUALIFY bool_or(freed) OVER (PARTITION BY r.payload, r.symbol);
