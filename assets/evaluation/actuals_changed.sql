-- The cells whose actual is new, or has changed or disappeared since they were scored. Equal but for rounding counts as
-- unchanged: rounding depends on the length of the history that was read.
-- Registered: `wanted` (all cells of the chunk), `actuals` (those with a bar at the target).
WITH known AS (FROM scored_actuals WHERE origin BETWEEN $oldest AND $newest)
SELECT symbol, origin, step FROM actuals a LEFT JOIN known k USING (symbol, origin, step)
WHERE NOT coalesce({unchanged}, false)
UNION ALL
SELECT symbol, origin, step FROM wanted SEMI JOIN known USING (symbol, origin, step)
    ANTI JOIN actuals USING (symbol, origin, step)
