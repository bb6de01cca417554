-- What aggregation means for accepted and rejected rows. Runs after fold.sql. parts: the rows of an aggregated bar;
-- incomplete: the bar lacks some of its rows.
INSERT INTO validated BY NAME
SELECT s.* EXCLUDE (bar_row) REPLACE ('conflicting_duplicate' AS rule)
FROM absorbed AS s JOIN duplicates AS d ON d.payload = s.payload AND d.row = s.bar_row
WHERE d.outcome = 'conflicting_duplicate';

DELETE FROM absorbed USING duplicates AS d
WHERE d.outcome = 'conflicting_duplicate' AND d.payload = absorbed.payload AND d.row = absorbed.bar_row;

ALTER TABLE accepted ADD COLUMN incomplete BOOLEAN DEFAULT false;

ALTER TABLE accepted ADD COLUMN parts BIGINT[];

UPDATE accepted SET incomplete = a.found < e.rows
FROM aggregates AS a JOIN expected AS e USING (payload, ts)
WHERE accepted.payload = a.payload AND accepted.row = a.row;

UPDATE accepted SET parts = s.rows
FROM (SELECT payload, bar_row, list_prepend(bar_row, list(row ORDER BY row)) AS rows FROM absorbed GROUP BY payload, bar_row) AS s
WHERE accepted.payload = s.payload AND accepted.row = s.bar_row;
