-- Predicted (median) and actual returns of every symbol, for the origins and steps in `touched`. All symbols, not only
-- those scored in this run: the rank correlation is across all of them. Registered: `actuals`, `touched`.
SELECT q.origin, q.step, q.symbol, q.value / a.last_close - 1 AS predicted, a.actual / a.last_close - 1 AS actual
FROM forecast_quantiles q JOIN actuals a USING (symbol, origin, step) SEMI JOIN touched USING (origin, step)
WHERE q.model = $model AND q.checkpoint = $checkpoint AND q.field = 'close' AND q.level = 0.5
  AND q.origin BETWEEN $oldest AND $newest
