-- The out-of-sample origins with scores of the checkpoints in `checkpoints_in_use` that pass the filter of origins.
FROM (SELECT DISTINCT model, checkpoint, origin FROM forecast_scores)
SEMI JOIN checkpoints_in_use USING (model, checkpoint) {out_of_sample} WHERE {origin_filter}
