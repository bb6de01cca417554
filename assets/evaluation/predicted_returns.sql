-- Predicted (median) and actual returns of every scored forecast that passes the filter.
SELECT q.model, q.checkpoint, q.origin, q.step, q.symbol,
       q.value / a.last_close - 1 AS predicted, a.actual / a.last_close - 1 AS actual
FROM (
    SELECT * FROM forecast_quantiles SEMI JOIN checkpoints_in_use USING (model, checkpoint)
    WHERE field = 'close' AND level = 0.5 AND {forecast_filter}
) q
JOIN scored_actuals a USING (symbol, origin, step)
