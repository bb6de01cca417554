-- Signs of bars that hold the price of another day, per symbol (period 0) and per period of 250 sessions, counted from
-- the newest. Bars within a session are put together. Moves of more than a quarter are left out: splits, wrong prices.
WITH sessions AS (
    SELECT symbol, session, arg_min(open, ts) AS open, max(high) AS high, min(low) AS low, arg_max(close, ts) AS close
    FROM bars WHERE frequency = $frequency GROUP BY symbol, session
),
neighbours AS (
    SELECT symbol, session, ln(open / lag(close) OVER w) AS overnight, ln(close / lag(close) OVER w) AS move,
           (close NOT BETWEEN lead(low) OVER w AND lead(high) OVER w)::DOUBLE AS outside, ln(high / low) AS range,
           row_number() OVER (PARTITION BY symbol ORDER BY session DESC) - 1 AS later
    FROM sessions WINDOW w AS (PARTITION BY symbol ORDER BY session)
),
moves AS (
    SELECT *, 1 + later // 250 AS period, lag(move) OVER w AS previous, lag(range) OVER w AS previous_range
    FROM neighbours WINDOW w AS (PARTITION BY symbol ORDER BY session)
    QUALIFY abs(overnight) < 0.25 AND abs(lag(move) OVER w) < 0.25
)
SELECT symbol, coalesce(period, 0) AS period, min(session) AS first, max(session) AS last,
       count(*)::BIGINT AS sessions,
       -- Where the market never closes there is hardly an overnight move, and what there is is the spread.
       CASE WHEN stddev(overnight) > 0.1 * stddev(move) AND stddev(previous) > 0
            THEN corr(overnight, previous) END AS overnight_against_move,
       avg(outside) AS outside_next_range,
       CASE WHEN stddev(range) > 0 AND stddev(previous_range) > 0
            THEN corr(range, previous_range) END AS range_autocorrelation
FROM moves GROUP BY GROUPING SETS ((symbol), (symbol, period)) HAVING count(*) >= $fewest ORDER BY 1, 2
