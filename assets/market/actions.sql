-- corporate_actions as the bars report them. Needs the temporary table session_actions.
SELECT symbol, session AS ex_date, 'split' AS kind, split AS value, 1 / split AS price_factor,
       origin, source, payload_sha256, available_at
FROM session_actions
WHERE split <> 1
UNION ALL
-- Cash is paid on the shares after a split of the same day.
SELECT symbol, session, 'dividend', dividend, 1 - dividend * split / previous,
       origin, source, payload_sha256, available_at
FROM session_actions
WHERE dividend > 0 AND dividend * split < previous
