-- Accepted rows where prices are as quoted and actions are stated, not derived (derive.sql does that).
CREATE TEMP TABLE accepted AS
SELECT v.payload, v.row, v.symbol, v.ts, v.session, v.open, v.high, v.low, v.close, v.volume, v.amount,
       v.dividend, v.split, CASE WHEN v.dividend IS NOT NULL OR v.split IS NOT NULL THEN p.actions END AS actions,
       false AS folded
FROM validated AS v
JOIN payloads AS p ON p.number = v.payload
LEFT JOIN duplicates AS d ON d.payload = v.payload AND d.row = v.row
WHERE v.rule IS NULL AND d.outcome IS NULL;
