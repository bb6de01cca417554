-- Per request, the rows of its newest payload: received, kept, folded, rejected; `lost` leaves out other series, and
-- bars that were still forming, which are read again. `rules` has the number of rows and the first row of every rule.
WITH newest AS (
    FROM payloads
    WHERE frequency = $frequency
    QUALIFY row_number() OVER (PARTITION BY request ORDER BY batch DESC) = 1
),
by_rule AS (
    SELECT batch, file, rule, count(*) AS rows,
           arg_min(
               -- The column and the cell that are not a number.
               concat_ws(', ', 'row ' || row_number, nullif(regexp_extract(reason, '^(column .*''): ', 1), ''))
               || ' (' || left(coalesce(nullif(concat_ws(
                   ' ', symbol, date, open, high, low, close
               ), ''), received), 120) || ')',
               row_number
           ) AS example
    FROM rejected_bars SEMI JOIN newest USING (batch, file)
    GROUP BY batch, file, rule
),
by_file AS (
    SELECT batch, file,
           coalesce(sum(rows) FILTER (rule NOT IN ('not_closed_yet', 'other_series')), 0) AS lost,
           string_agg(rows || ' ' || rule || ', e.g. ' || example, '; ' ORDER BY rows DESC, rule) AS rules
    FROM by_rule
    GROUP BY batch, file
)
SELECT n.request, n.source, n.file, n.received, n.kept, n.folded, n.rejected,
       coalesce(f.lost, 0)::BIGINT AS lost, coalesce(f.rules, '') AS rules, coalesce(n.aggregated, 0) AS aggregated
FROM newest AS n LEFT JOIN by_file AS f USING (batch, file)
ORDER BY lost DESC, n.rejected DESC, n.file
