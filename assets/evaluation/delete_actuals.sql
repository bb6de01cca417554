DELETE FROM scored_actuals USING changed c
WHERE scored_actuals.origin BETWEEN $oldest AND $newest AND scored_actuals.symbol = c.symbol
  AND scored_actuals.origin = c.origin AND scored_actuals.step = c.step
