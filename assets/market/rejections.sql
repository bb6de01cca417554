SELECT rule, arg_min(reason, (file, row_number)) AS reason, count(*) AS rows, min(session) AS first, max(session) AS last,
       arg_min(file || ', row ' || row_number, (file, row_number)) AS example
FROM rejected_bars
WHERE frequency = $frequency
GROUP BY rule
ORDER BY rows DESC, rule
