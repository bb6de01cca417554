-- The scores of the checkpoints in `checkpoints_in_use` that pass the forecast filter. Rank correlations stored for
-- origins where other symbols were forecast too are replaced by those in `rank_correlations`.
SELECT s.* FROM forecast_scores s SEMI JOIN checkpoints_in_use USING (model, checkpoint)
WHERE {forecast_filter} OR ({origin_filter} AND symbol = '*' AND NOT $other_symbols)
UNION ALL BY NAME FROM rank_correlations
