-- Forecasts of derived models that were made of less than is stored now: number of the model, symbol, origin, made_at,
-- learnt_from, and `known`, the number of earlier origins that have a forecast of a base now.
-- Registered: `derived` (number, model, checkpoint, learns), and `bases` (number, model, checkpoint, newest), the
-- checkpoints of the models that each is derived from.
WITH earlier AS (
    SELECT number, origin, row_number() OVER (PARTITION BY number ORDER BY origin) AS known
    FROM (
        SELECT DISTINCT b.number, f.origin FROM forecasts f JOIN bases b USING (model, checkpoint)
        WHERE {forecast_filter}
    )
), base AS (
    SELECT b.number, symbol, origin, max(made_at) AS made_at
    FROM forecasts JOIN bases b USING (model, checkpoint) WHERE b.newest GROUP BY ALL
)
SELECT f.number, f.symbol, f.origin, f.made_at, coalesce(f.learnt_from, 0) AS learnt_from,
       CASE WHEN f.learns THEN coalesce(e.known, 0) ELSE 0 END AS known
FROM (
    SELECT d.number, d.learns, symbol, origin, made_at, learnt_from
    FROM forecasts JOIN derived d USING (model, checkpoint)
    WHERE $symbols IS NULL OR list_contains($symbols, symbol)
) f
ASOF LEFT JOIN earlier e ON e.number = f.number AND f.origin > e.origin
LEFT JOIN base b ON b.number = f.number AND b.symbol = f.symbol AND b.origin = f.origin
WHERE f.learns AND coalesce(f.learnt_from, 0) < coalesce(e.known, 0) OR b.made_at > f.made_at
