-- Whether the checkpoints in use forecast symbols that the filter excludes.
SELECT count(*) > 0 FROM forecasts SEMI JOIN checkpoints_in_use USING (model, checkpoint)
WHERE {origin_filter} AND NOT list_contains($symbols, symbol)
