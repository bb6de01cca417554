-- The scores from `scored_origins` of the symbols of the forecast filter. Rank correlations stored for origins where other
-- symbols were forecast too are replaced by those in `rank_correlations`.
SELECT s.* FROM forecast_scores s SEMI JOIN scored_origins USING (model, checkpoint, origin)
WHERE $symbols IS NULL OR list_contains($symbols, symbol) OR (symbol = '*' AND NOT $other_symbols)
UNION ALL BY NAME (FROM rank_correlations {out_of_sample})
