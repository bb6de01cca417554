-- Scores that are outside the range of their metric or not finite, of all origins; and, of origins between $oldest and
-- $newest, those that are stored twice.
WITH examined AS (
    SELECT *,
           NOT isfinite(value)
           OR CASE WHEN starts_with(metric, 'coverage_') OR metric = 'direction' THEN value NOT IN (0, 1)
                   WHEN metric = 'rank_ic' THEN abs(value) > 1
                   WHEN metric = 'pit' THEN value <= 0 OR value >= 1
                   ELSE value < 0 END AS impossible
    FROM forecast_scores
)
SELECT model, checkpoint, symbol, origin, step, metric, count(*) AS times, min(value) AS least, max(value) AS most
FROM examined
WHERE impossible OR origin BETWEEN $oldest AND $newest
GROUP BY ALL
HAVING times > 1 OR bool_or(impossible)
ORDER BY ALL
LIMIT 1000
