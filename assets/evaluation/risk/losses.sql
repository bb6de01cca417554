-- The losses that occurred, with their places in an array of steps × symbols × origins. Registered as in loss_outcomes.sql.
SELECT (s.place * $symbols + y.place) * $origins + o.place AS place, -ln(actual / last_close) AS loss
FROM scored_actuals
JOIN placed_steps s USING (step)
JOIN placed_symbols y USING (symbol)
JOIN placed_origins o USING (origin)
