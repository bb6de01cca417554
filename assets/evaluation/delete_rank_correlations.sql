-- Rank correlations of the models, origins and steps in `touched_ranks`: they are computed anew.
DELETE FROM forecast_scores USING touched_ranks t
WHERE forecast_scores.origin BETWEEN $oldest AND $newest AND forecast_scores.symbol = $across_symbols
  AND forecast_scores.model = t.model AND forecast_scores.checkpoint = t.checkpoint
  AND forecast_scores.origin = t.origin AND forecast_scores.step = t.step
