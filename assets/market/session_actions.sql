-- The splits and dividends that bars report, one row per symbol and session: the temporary table session_actions.
--
-- A session's actions are read from one frequency: the one with the most complete information, then the longest (1d
-- before 1h before 5min). The bars of a session may repeat an action; if they report different ones, none is used.
-- An action that is derived from an adjusted close happened at some time since the frequency's previous session. If
-- another frequency has a session in that interval that reports an action, both are the same one.
--
-- A table, not a view: filters of a query on it would change the plan, and cost many times as much with more symbols.
CREATE OR REPLACE TEMP TABLE session_actions AS
WITH several_frequencies AS (SELECT symbol FROM bars GROUP BY symbol HAVING min(frequency) <> max(frequency)),
acting AS (SELECT DISTINCT symbol, session FROM bars WHERE dividend > 0 OR split <> 1),
-- Of a symbol with one frequency its sessions with an action are enough: few, however long the history.
compared_bars AS (
    FROM bars SEMI JOIN several_frequencies USING (symbol)
    UNION ALL
    FROM (FROM bars ANTI JOIN several_frequencies USING (symbol)) SEMI JOIN acting USING (symbol, session)
),
reported AS MATERIALIZED (
    SELECT symbol, frequency, session, min(ts) AS first_ts, arg_max(close, ts) AS close, count(*) AS bars,
           min(CASE WHEN actions IS NULL OR actions = 'unknown' THEN 0
                    WHEN suffix(actions, 'unknown') THEN 1 ELSE 2 END) AS completeness,
           min(dividend) FILTER (dividend > 0) AS least_cash, max(dividend) FILTER (dividend > 0) AS most_cash,
           min(split) FILTER (split <> 1) AS least_split, max(split) FILTER (split <> 1) AS most_split,
           arg_min(actions, ts) FILTER (dividend > 0 OR split <> 1) AS origin,
           arg_min(source, ts) AS source,
           arg_min(payload_sha256, ts) AS payload_sha256, min(available_at) AS available_at
    FROM compared_bars
    GROUP BY symbol, frequency, session
),
compared AS (
    SELECT *, lag(session) OVER (PARTITION BY symbol, frequency ORDER BY session) AS since,
           avg(bars) OVER (PARTITION BY symbol, frequency) AS bars_per_session
    FROM reported SEMI JOIN several_frequencies USING (symbol)
),
chosen AS (
    FROM compared
    QUALIFY row_number() OVER (PARTITION BY symbol, session
                               ORDER BY completeness DESC, frequency = '1d' DESC, bars_per_session, frequency) = 1
),
sessions AS (
    SELECT r.*, NULL AS since, NULL AS bars_per_session, b.close AS previous
    FROM (FROM reported ANTI JOIN several_frequencies USING (symbol)) AS r
    ASOF LEFT JOIN (SELECT symbol, ts, close FROM bars SEMI JOIN acting USING (symbol)) AS b
        ON b.symbol = r.symbol AND b.ts < r.first_ts
    UNION ALL
    SELECT *, lag(close) OVER (PARTITION BY symbol ORDER BY session) AS previous FROM chosen
),
with_action AS MATERIALIZED (
    SELECT *, CASE WHEN least_cash = most_cash THEN least_cash ELSE 0 END AS dividend,
           CASE WHEN least_split = most_split THEN least_split ELSE 1 END AS split
    FROM sessions
    WHERE origin IS NOT NULL
),
repeated AS (
    SELECT d.symbol, d.session, bool_or(o.dividend > 0) AS dividend, bool_or(o.split <> 1) AS split
    FROM with_action AS d JOIN with_action AS o
        ON o.symbol = d.symbol AND o.session > d.since AND o.session < d.session AND o.frequency <> d.frequency
    WHERE d.origin LIKE 'derived%'
    GROUP BY d.symbol, d.session
)
SELECT a.* REPLACE (CASE WHEN r.dividend THEN 0 ELSE a.dividend END AS dividend,
                    CASE WHEN r.split THEN 1 ELSE a.split END AS split)
FROM with_action AS a LEFT JOIN repeated AS r USING (symbol, session);
