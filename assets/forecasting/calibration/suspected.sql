-- Origins at which a derived model may have outdated forecasts, by what all its forecasts from there have in common: number
-- of the model, origin. A twentieth of the time of `outdated`, which compares single forecasts; mostly there is none.
-- Registered: as for `outdated`.
WITH by_origin AS MATERIALIZED (
    SELECT model, checkpoint, origin, max(made_at) AS newest, min(made_at) FILTER ({symbol_filter}) AS oldest,
           min(coalesce(learnt_from, 0)) FILTER ({symbol_filter}) AS fewest, bool_or({symbol_filter}) AS is_wanted
    FROM forecasts GROUP BY model, checkpoint, origin
), earlier AS (
    SELECT number, origin, row_number() OVER (PARTITION BY number ORDER BY origin) AS known
    FROM (
        SELECT DISTINCT b.number, f.origin FROM by_origin f JOIN bases b USING (model, checkpoint)
        WHERE is_wanted AND {origin_filter}
    )
), base AS (
    SELECT b.number, origin, max(f.newest) AS made_at
    FROM by_origin f JOIN bases b USING (model, checkpoint) WHERE b.newest GROUP BY ALL
)
SELECT d.number, f.origin
FROM by_origin f
JOIN derived d USING (model, checkpoint)
ASOF LEFT JOIN earlier e ON e.number = d.number AND f.origin > e.origin
LEFT JOIN base b ON b.number = d.number AND b.origin = f.origin
WHERE d.learns AND f.fewest < coalesce(e.known, 0) OR b.made_at > f.oldest
