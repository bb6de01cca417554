-- Scores of the cells in `changed`, of forecasts of bars of this frequency.
DELETE FROM forecast_scores USING changed c
WHERE (forecast_scores.model, forecast_scores.checkpoint) NOT IN ({other_frequencies})
  AND forecast_scores.origin BETWEEN $oldest AND $newest AND forecast_scores.symbol = c.symbol
  AND forecast_scores.origin = c.origin AND forecast_scores.step = c.step
