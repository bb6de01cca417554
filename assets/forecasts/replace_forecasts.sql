-- Replace the stored forecasts of a model in `replaced` (symbol, origin) by those in `new_forecasts`.
UPDATE forecasts f SET made_at = $made_at::TIMESTAMP, in_sample = n.in_sample, corrected = n.corrected,
    learnt_from = n.learnt_from
FROM new_forecasts n SEMI JOIN replaced USING (symbol, origin)
WHERE f.model = $model AND f.checkpoint = $checkpoint AND f.symbol = n.symbol AND f.origin = n.origin
