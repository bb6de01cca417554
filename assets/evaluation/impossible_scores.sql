-- Scores that are stored twice, not finite, or outside the range of their metric.
SELECT model, checkpoint, symbol, origin, step, metric, count(*) AS times, min(value) AS least, max(value) AS most
FROM forecast_scores
GROUP BY ALL
HAVING times > 1 OR NOT isfinite(least) OR NOT isfinite(most)
    OR CASE WHEN starts_with(metric, 'coverage_') OR metric = 'direction' THEN least NOT IN (0, 1)
            WHEN metric = 'rank_ic' THEN abs(least) > 1
            WHEN metric = 'pit' THEN least <= 0 OR least >= 1
            ELSE least < 0 END
ORDER BY ALL
LIMIT 1000
