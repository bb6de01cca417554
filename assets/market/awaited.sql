-- The symbols whose bars are awaited in $sessions, with their newest bar there; null: none yet.
-- Awaited: a bar in one of the $preceding newest sessions with bars before the session. Sessions without any bar are not
-- counted, so that a source that stops keeps all of its symbols awaited.
WITH asked AS (SELECT unnest($sessions::DATE[]) AS session),
selected AS (
    SELECT symbol, session, ts FROM bars
    WHERE frequency = $frequency AND session <= (SELECT max(session) FROM asked) AND ($symbols IS NULL OR list_contains($symbols, symbol))
      AND {own_bars}
),
trading AS (
    -- Three days per session allow for the longest holidays between two sessions.
    SELECT symbol, session, max(ts) AS newest FROM selected
    WHERE session >= (SELECT max(session) FROM selected WHERE session < (SELECT min(session) FROM asked)) - 3 * $preceding::INTEGER
    GROUP BY symbol, session
),
numbered AS (SELECT session, row_number() OVER (ORDER BY session) AS number FROM trading GROUP BY session),
preceding AS (
    SELECT a.session, max(n.number) AS number FROM asked a JOIN numbered n ON n.session < a.session GROUP BY a.session
),
awaited AS (
    SELECT DISTINCT p.session, t.symbol
    FROM preceding p
    JOIN numbered n ON n.number <= p.number AND n.number > p.number - $preceding
    JOIN trading t ON t.session = n.session
)
SELECT a.session, a.symbol, t.newest
FROM awaited a LEFT JOIN trading t USING (session, symbol)
ORDER BY a.session, a.symbol
