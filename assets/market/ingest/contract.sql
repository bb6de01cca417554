-- The contract of bars: the table validated has every row of a batch, with the first rule that it breaks or null.
-- Temporary tables that exist already (contract.py):
--   received  payload, row, symbol as written, timestamp, numbers, the name of the first cell that is not a number
--   grid      every bar that the calendar expects: ts, session, closes_at, half_day
--   payloads  number, fetched_at, basis of the prices, source of the actions
--   pieces    the bar of every row of a finer frequency, or the rule that it breaks

CREATE TEMP TABLE spellings AS
SELECT symbol AS written, upper(symbol) AS symbol,
       row_number() OVER (PARTITION BY upper(symbol) ORDER BY count(*) DESC, symbol DESC) = 1 AS usual
FROM received WHERE symbol IS NOT NULL GROUP BY symbol;

CREATE TEMP TABLE hours AS
SELECT session, min(ts) AS opens_at, max(closes_at) AS closes_at FROM grid GROUP BY session;

-- The bar that a timestamp ends.
CREATE TEMP TABLE ended AS
SELECT closes_at, max(ts) AS starts_at FROM grid WHERE $ends GROUP BY closes_at;

CREATE TEMP TABLE validated AS
WITH placed AS (
    -- NaN means "missing" in a column of floats; DuckDB sorts it above every number.
    SELECT r.* REPLACE (CASE WHEN NOT isnan(r.volume) THEN r.volume END AS volume,
                        CASE WHEN NOT isnan(r.amount) THEN r.amount END AS amount,
                        CASE WHEN NOT isnan(r.dividend) THEN r.dividend END AS dividend,
                        CASE WHEN NOT isnan(r.split) THEN r.split END AS split,
                        CASE WHEN NOT isnan(r.adj_close) THEN r.adj_close END AS adj_close),
           s.symbol AS name, s.usual, p.fetched_at, p.basis,
           CASE WHEN NOT $daily THEN coalesce(r.instant, timezone('UTC', timezone($zone, r.local)))
                -- Midnight is the date as written; any other time is an instant of a day at the exchange.
                WHEN r.local::TIME = TIME '00:00' OR r.instant IS NULL AND $zone = $exchange
                THEN r.local::DATE
                ELSE timezone($exchange, coalesce(timezone('UTC', r.instant), timezone($zone, r.local)))::DATE
                END::TIMESTAMP AS ts
    FROM received AS r JOIN payloads AS p ON p.number = r.payload
    LEFT JOIN spellings AS s ON s.written = r.symbol
),
started AS (
    SELECT p.* REPLACE (CASE WHEN i.row IS NOT NULL THEN coalesce(i.ts, i.stamp) ELSE coalesce(e.starts_at, p.ts) END AS ts),
           CASE WHEN i.row IS NOT NULL THEN i.ts IS NULL ELSE $ends AND e.starts_at IS NULL END AS in_no_bar,
           NOT $daily OR i.row IS NOT NULL AS timed, i.rule AS piece_rule
    FROM placed AS p
    LEFT JOIN ended AS e ON e.closes_at = p.ts
    LEFT JOIN pieces AS i ON i.payload = p.payload AND i.row = p.row
)
SELECT b.payload, b.row, b.name AS symbol, b.ts, coalesce(g.session, b.ts::DATE) AS session,
       b.open, b.high, b.low, b.close, b.volume, b.amount, b.dividend,
       -- 0 is how several vendors write "no split".
       CASE WHEN b.split = 0 THEN 1 ELSE b.split END AS split,
       b.adj_close, b.factor,
       NOT coalesce(b.left_out, false) AND coalesce(b.dividend <> 0 OR b.split NOT IN (0, 1) OR b.unreadable IN ('dividend', 'split'), false) AS acts,
       CASE
           WHEN b.unparsed THEN 'wrong_number_of_cells'
           WHEN b.left_out THEN 'other_series'
           WHEN b.symbol IS NULL OR b.symbol = '' THEN 'missing_symbol'
           WHEN NOT regexp_full_match(b.symbol, '[A-Za-z0-9^][A-Za-z0-9.=_^/&-]{0,31}') OR contains(b.symbol, '..')
               THEN 'bad_symbol'
           WHEN regexp_full_match(b.name, '(NA|NAN|NULL|NONE|CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])([.].*)?')
               THEN 'reserved_symbol'
           WHEN NOT b.usual THEN 'symbol_in_other_case'
           WHEN b.problem IS NOT NULL THEN b.problem
           WHEN b.ts IS NULL THEN 'missing_date'
           WHEN b.timed AND b.instant IS NULL AND timezone($zone, timezone($zone, b.local)) <> b.local
               THEN 'no_such_local_time'
           WHEN b.timed AND b.instant IS NULL
                AND (timezone($zone, timezone($zone, b.local) + INTERVAL 1 HOUR) = b.local
                     OR timezone($zone, timezone($zone, b.local) - INTERVAL 1 HOUR) = b.local)
               THEN 'ambiguous_local_time'
           WHEN b.ts > b.fetched_at + INTERVAL 14 HOUR THEN 'in_the_future'
           WHEN b.piece_rule IS NOT NULL THEN b.piece_rule
           WHEN g.ts IS NULL AND b.ts < $calendar_starts THEN 'before_the_calendar'
           WHEN g.ts IS NULL AND o.session IS NULL THEN 'not_a_session'
           WHEN g.ts IS NULL AND (b.ts < o.opens_at OR b.ts >= o.closes_at) THEN 'outside_hours'
           WHEN g.ts IS NULL THEN 'off_the_grid'
           WHEN b.unreadable IS NOT NULL THEN 'not_a_number'
           WHEN b.open IS NULL OR b.high IS NULL OR b.low IS NULL OR b.close IS NULL THEN 'missing_price'
           WHEN NOT (isfinite(b.open) AND isfinite(b.high) AND isfinite(b.low) AND isfinite(b.close))
               THEN 'price_not_finite'
           WHEN least(b.open, b.high, b.low, b.close) <= 0 THEN 'price_not_positive'
           WHEN greatest(b.open, b.high, b.low, b.close) > 1e12 THEN 'price_out_of_range'
           WHEN b.low > b.high THEN 'low_above_high'
           WHEN b.open NOT BETWEEN b.low AND b.high THEN 'open_outside_range'
           WHEN b.close NOT BETWEEN b.low AND b.high THEN 'close_outside_range'
           WHEN b.volume < 0 OR b.amount < 0 THEN 'negative_volume'
           WHEN (isinf(b.volume) OR b.volume > 1e18) OR (isinf(b.amount) OR b.amount > 1e24) THEN 'volume_out_of_range'
           WHEN b.dividend < 0 OR isinf(b.dividend) OR b.split <> 0 AND b.split NOT BETWEEN 1e-6 AND 1e6
                OR b.basis = 'factor' AND (b.factor IS NULL OR b.factor <= 0 OR NOT isfinite(b.factor))
               THEN 'impossible_action'
           -- Not used where dividend and split are stated.
           WHEN (b.dividend IS NULL OR b.split IS NULL) AND (b.adj_close <= 0 OR b.adj_close > 1e12)
               THEN 'impossible_adjusted_close'
           WHEN g.closes_at > b.fetched_at THEN 'not_closed_yet'
       END AS rule
FROM started AS b
LEFT JOIN grid AS g ON g.ts = b.ts AND NOT b.in_no_bar
LEFT JOIN hours AS o ON o.session = b.ts::DATE;

-- Bars of a finer frequency: others of their payload start inside a bar of the grid. Up to two are taken for stray rows.
UPDATE validated SET rule = 'finer_frequency'
FROM (
    SELECT payload, symbol, ts
    FROM (SELECT DISTINCT o.payload, o.symbol, g.ts
          FROM validated AS o ASOF JOIN grid AS g ON o.ts > g.ts
          WHERE o.rule = 'off_the_grid' AND o.ts < g.closes_at AND o.payload NOT IN (SELECT payload FROM periods))
    SEMI JOIN (SELECT payload, symbol, ts FROM validated WHERE rule IS NULL) USING (payload, symbol, ts)
    QUALIFY count(*) OVER (PARTITION BY payload, symbol) > 2
) AS f
WHERE validated.rule IS NULL AND validated.payload = f.payload AND validated.symbol = f.symbol AND validated.ts = f.ts;

-- Splits that a payload's prices are divided by, also from rejected rows.
CREATE TEMP TABLE splits AS
SELECT j.payload, j.symbol, j.session, max(j.split) AS split, count(DISTINCT j.split) > 1 AS unclear
FROM validated AS j JOIN payloads AS p ON p.number = j.payload
WHERE p.basis = 'split-adjusted' AND j.split > 0 AND j.split <> 1 AND isfinite(j.split)
  AND j.symbol IS NOT NULL AND j.ts IS NOT NULL
GROUP BY j.payload, j.symbol, j.session;

UPDATE validated SET rule = 'unclear_split'
FROM (SELECT payload, symbol, max(session) AS session FROM splits WHERE unclear GROUP BY payload, symbol) AS u
WHERE validated.rule IS NULL AND validated.payload = u.payload AND validated.symbol = u.symbol AND validated.session < u.session;
