-- Forecasts of a derived model that were made of less than is stored now: symbol, origin, made_at, learnt_from, and
-- `known`, the number of earlier origins that have a forecast of a base now.
-- Registered: `bases` (model, checkpoint, newest), the checkpoints of the models that it is derived from.
WITH earlier AS (
    SELECT origin, row_number() OVER (ORDER BY origin) AS known
    FROM (SELECT DISTINCT origin FROM forecasts SEMI JOIN bases USING (model, checkpoint) WHERE {forecast_filter})
), base AS (
    SELECT symbol, origin, max(made_at) AS made_at
    FROM forecasts SEMI JOIN (FROM bases WHERE newest) USING (model, checkpoint) GROUP BY symbol, origin
)
SELECT f.symbol, f.origin, f.made_at, coalesce(f.learnt_from, 0) AS learnt_from,
       CASE WHEN $learns THEN coalesce(e.known, 0) ELSE 0 END AS known
FROM (
    FROM forecasts WHERE model = $model AND checkpoint = $checkpoint
      AND ($symbols IS NULL OR list_contains($symbols, symbol))
) f
ASOF LEFT JOIN earlier e ON f.origin > e.origin
LEFT JOIN base b ON b.symbol = f.symbol AND b.origin = f.origin
WHERE $learns AND coalesce(f.learnt_from, 0) < coalesce(e.known, 0) OR b.made_at > f.made_at
