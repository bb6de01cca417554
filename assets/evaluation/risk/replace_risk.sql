-- Stored rows of a model that differ from the new ones. Registered: `new_risk`.
DELETE FROM forecast_risk
WHERE model = $model AND list_contains($measures, measure)
  AND rowid IN (
    SELECT r.rowid FROM forecast_risk r ANTI JOIN new_risk USING ({columns})
    WHERE r.model = $model AND list_contains($measures, r.measure)
  )
