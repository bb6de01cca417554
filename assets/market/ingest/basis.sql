-- What the prices of a payload show on the days of its splits, or of a factor that changes by more than a fifth.
-- Rows: payload, kind (split or factor), shown (days on which the price moved by the ratio), hidden (days on which it
-- did not), the first such day and its ratio.
-- Rows that will be rejected are no evidence: impossible prices, days without a session, several rows of one time.
WITH usable AS (
    FROM received AS r SEMI JOIN exchange_days AS e ON e.session = coalesce(r.local, r.instant)::DATE
    WHERE open > 0 AND close > 0 AND least(open, close) >= low AND greatest(open, close) <= high AND NOT left_out
      AND coalesce(factor, 1) > 0
    QUALIFY count(*) OVER (PARTITION BY payload, symbol, coalesce(instant, local)) = 1
),
ordered AS (
    SELECT payload, split, coalesce(instant, local) AS ts, ln(lag(close) OVER before / open) AS move,
           CASE WHEN split > 0 AND split IS DISTINCT FROM lag(split) OVER before THEN ln(split) END AS split_ratio,
           ln(factor / lag(factor) OVER before) AS factor_ratio
    FROM usable
    WINDOW before AS (PARTITION BY payload, symbol ORDER BY coalesce(instant, local))
),
events AS (
    SELECT payload, 'split' AS kind, ts, move, split_ratio AS ratio FROM ordered
    UNION ALL SELECT payload, 'factor', ts, move, factor_ratio FROM ordered
)
SELECT payload, kind, count(*) FILTER (abs(move - ratio) < abs(move)) AS shown,
       count(*) FILTER (abs(move - ratio) >= abs(move)) AS hidden,
       strftime(min(ts), '%Y-%m-%d') AS day, arg_min(exp(ratio), ts) AS ratio
FROM events
WHERE abs(ratio) > ln(1.2) AND isfinite(move) GROUP BY payload, kind;
