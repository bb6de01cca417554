-- The tables of the warehouse. Timestamps are UTC. The `ts` of a daily bar is its session at 00:00, that of an intraday
-- bar its start.

-- One row. A database without this table has version 1.
CREATE TABLE IF NOT EXISTS schema_version (
    version INTEGER NOT NULL             -- number of the last script of resources/migrations that was applied
);

CREATE TABLE IF NOT EXISTS bars (
    symbol         VARCHAR   NOT NULL,
    ts             TIMESTAMP NOT NULL,
    session        DATE      NOT NULL,
    frequency      VARCHAR   NOT NULL,
    open           DOUBLE    NOT NULL,   -- as quoted, never adjusted
    high           DOUBLE    NOT NULL,
    low            DOUBLE    NOT NULL,
    close          DOUBLE    NOT NULL,
    volume         DOUBLE,               -- null: the source has none
    amount         DOUBLE,
    flags          VARCHAR[] NOT NULL,   -- what each means: assets/market/ingest/rules.py
    source         VARCHAR   NOT NULL,
    payload_sha256 VARCHAR   NOT NULL,
    available_at   TIMESTAMP NOT NULL,
    dividend       DOUBLE,               -- cash a share on this ex-date, as quoted; null: the source does not say
    split          DOUBLE,               -- new shares for one old
    actions        VARCHAR,              -- who says so: 'columns', 'source', 'derived from adjusted close'
    batch          BIGINT    NOT NULL    -- of the lake, in the order of knowledge
);
-- No index: the merge keeps (symbol, ts, frequency) unique and a blocking check says so; an index of five million
-- keys would have to be in memory at every write.

-- Versions of the bars that more than one request contains, or that changed: one row whenever the values that a request
-- has for a bar change. A bar with one request and one version is in `bars` alone. The current bar is the version with
-- the newest `since` among the latest version of each request that is not withdrawn. Rows are only added.
CREATE TABLE IF NOT EXISTS bar_versions (
    symbol         VARCHAR   NOT NULL,
    ts             TIMESTAMP NOT NULL,
    session        DATE      NOT NULL,
    frequency      VARCHAR   NOT NULL,
    open           DOUBLE    NOT NULL,
    high           DOUBLE    NOT NULL,
    low            DOUBLE    NOT NULL,
    close          DOUBLE    NOT NULL,
    volume         DOUBLE,
    amount         DOUBLE,
    dividend       DOUBLE,
    split          DOUBLE,
    actions        VARCHAR,
    request        VARCHAR   NOT NULL,   -- the file, or the range of a provider, that contains this version
    source         VARCHAR   NOT NULL,
    payload_sha256 VARCHAR   NOT NULL,
    available_at   TIMESTAMP NOT NULL,   -- when this version could first be known as the bar
    batch          BIGINT    NOT NULL,   -- of the payload
    since          BIGINT    NOT NULL,   -- batch since which the request has these values
    recorded       BIGINT    NOT NULL,   -- batch that added this row
    folded         BOOLEAN   NOT NULL,   -- repeats the version of another request
    withdrawn      BOOLEAN   NOT NULL,   -- the request no longer contains the bar
    incomplete     BOOLEAN   DEFAULT false -- aggregated, and some of the finer rows are missing
);

-- bars as they were known on a day: SELECT * FROM bars_as_known(TIMESTAMP '2024-05-01')
-- Without flags, which describe a bar beside its neighbours of today.
CREATE MACRO IF NOT EXISTS bars_as_known(moment) AS TABLE
SELECT * EXCLUDE (flags) FROM bars ANTI JOIN bar_versions USING (symbol, ts, frequency) WHERE available_at <= moment
UNION ALL BY NAME
SELECT * EXCLUDE (request, since, recorded, folded, withdrawn, incomplete)
FROM (
    FROM bar_versions WHERE available_at <= moment
    QUALIFY row_number() OVER (PARTITION BY symbol, ts, frequency, request ORDER BY recorded DESC) = 1
)
WHERE NOT withdrawn
QUALIFY row_number() OVER (PARTITION BY symbol, ts, frequency ORDER BY since DESC, folded, batch, request) = 1;

CREATE TABLE IF NOT EXISTS rejected_bars (
    symbol         VARCHAR,              -- every column of the bar as received, as text
    date           VARCHAR,
    open           VARCHAR,
    high           VARCHAR,
    low            VARCHAR,
    close          VARCHAR,
    volume         VARCHAR,
    amount         VARCHAR,
    session        DATE,                 -- null: the date could not be read
    frequency      VARCHAR   NOT NULL,
    file           VARCHAR   NOT NULL,
    row_number     BIGINT    NOT NULL,   -- in the payload, from 1, the header not counted
    received       VARCHAR   NOT NULL,   -- the whole row as received, as JSON
    rule           VARCHAR   NOT NULL,
    reason         VARCHAR   NOT NULL,
    source         VARCHAR   NOT NULL,
    payload_sha256 VARCHAR   NOT NULL,
    available_at   TIMESTAMP NOT NULL,
    batch          BIGINT    NOT NULL,
    PRIMARY KEY (batch, file, row_number)
);

-- Rows of every payload: received = kept + folded + rejected, always.
CREATE TABLE IF NOT EXISTS payloads (
    payload_sha256 VARCHAR   NOT NULL,
    source         VARCHAR   NOT NULL,
    request        VARCHAR   NOT NULL,   -- a newer payload of the same request is a revision
    file           VARCHAR   NOT NULL,
    received       BIGINT    NOT NULL,
    kept           BIGINT    NOT NULL,   -- became bars
    folded         BIGINT    NOT NULL,   -- repeat a bar or an earlier version of their request, or are aggregated
    rejected       BIGINT    NOT NULL,
    available_at   TIMESTAMP NOT NULL,
    batch          BIGINT    NOT NULL,
    frequency      VARCHAR   NOT NULL,
    aggregated     BIGINT    DEFAULT 0,  -- those of the folded rows that are part of a bar with other rows
    PRIMARY KEY (batch, request)
);

-- Splits and dividends, as the bars report them. Rebuilt from `bars`; `adjusted_bars` applies them.
CREATE TABLE IF NOT EXISTS corporate_actions (
    symbol         VARCHAR   NOT NULL,
    ex_date        DATE      NOT NULL,   -- first session of trading without the dividend, or at the new number of shares
    kind           VARCHAR   NOT NULL CHECK (kind IN ('split', 'dividend')),
    value          DOUBLE    NOT NULL,   -- split: new shares for one old; dividend: cash per share, as quoted
    price_factor   DOUBLE    NOT NULL,   -- factor that makes earlier prices comparable with later ones
    origin         VARCHAR   NOT NULL,   -- 'columns', 'source' or 'derived from adjusted close'
    source         VARCHAR   NOT NULL,   -- market.source that the bar came from
    payload_sha256 VARCHAR   NOT NULL,   -- digest of the payload that contains the action
    available_at   TIMESTAMP NOT NULL,   -- when the action could first be known
    PRIMARY KEY (symbol, ex_date, kind)
);

-- One row per forecast. The key makes a forecast unique; its quantiles are inserted in the same transaction. A key on
-- forecast_quantiles would cost ten times the time and fifteen times the disk (5M rows: 12.9 s and 720 MB against 1.3 s
-- and 45 MB).
CREATE TABLE IF NOT EXISTS forecasts (
    model      VARCHAR   NOT NULL,
    checkpoint VARCHAR   NOT NULL,       -- see forecast_recipes
    symbol     VARCHAR   NOT NULL,
    origin     TIMESTAMP NOT NULL,       -- the last bar that the forecast used
    made_at    TIMESTAMP NOT NULL,       -- when the forecast was computed
    in_sample  BOOLEAN   NOT NULL,       -- the origin is not after the checkpoint's cutoff
    corrected  DOUBLE    NOT NULL,       -- share of the raw output that was corrected: bars of paths that were
                                         -- projected onto valid ones, neighbouring quantiles that crossed
    learnt_from INTEGER,                 -- earlier origins that a derived forecast was learnt from; null: not derived
    PRIMARY KEY (model, checkpoint, symbol, origin)
);

-- The weights and recipe of a `checkpoint`, which is `<16 digits of the weights' digest>-<8 digits of the recipe's>`, or
-- `<16 digits of the recipe's>` for a baseline, which has no weights.
CREATE TABLE IF NOT EXISTS forecast_recipes (
    model      VARCHAR NOT NULL,
    checkpoint VARCHAR NOT NULL,
    weights    VARCHAR,                  -- full digest in the checkpoint store; null: a baseline
    recipe     VARCHAR NOT NULL,         -- JSON: all that determines a forecast beside weights and bars
    PRIMARY KEY (model, checkpoint)
);

-- Forecasts that failed when they were last computed.
CREATE TABLE IF NOT EXISTS failed_forecasts (
    model      VARCHAR   NOT NULL,
    checkpoint VARCHAR   NOT NULL,       -- of the forecasts that failed
    symbol     VARCHAR   NOT NULL,
    origin     TIMESTAMP NOT NULL,
    tried_at   TIMESTAMP NOT NULL,
    reason     VARCHAR   NOT NULL
);

-- Time and memory of forecasts: one row per run and checkpoint that made some.
CREATE TABLE IF NOT EXISTS forecast_costs (
    model      VARCHAR   NOT NULL,
    checkpoint VARCHAR   NOT NULL,       -- see forecast_recipes
    made_at    TIMESTAMP NOT NULL,       -- when the run had made its last forecast
    forecasts  INTEGER   NOT NULL,       -- created and failed ones
    seconds    DOUBLE    NOT NULL,       -- in the model, without loading it
    peak_mib   DOUBLE    NOT NULL,       -- highest resident memory of the process and its children meanwhile
    added_mib  DOUBLE    NOT NULL        -- by how much that exceeds the memory before the model was loaded
);

-- Forecast distributions: one row per forecast, step, field and quantile level.
CREATE TABLE IF NOT EXISTS forecast_quantiles (
    model      VARCHAR   NOT NULL,
    checkpoint VARCHAR   NOT NULL,       -- see forecast_recipes
    symbol     VARCHAR   NOT NULL,
    origin     TIMESTAMP NOT NULL,       -- the last bar that the forecast used
    made_at    TIMESTAMP NOT NULL,       -- when the forecast was computed
    step       INTEGER   NOT NULL,       -- 1 … horizon, in bars after the origin
    target_ts  TIMESTAMP NOT NULL,       -- timestamp of the forecast bar, from the calendar
    field      VARCHAR   NOT NULL,       -- 'open', 'high', 'low', 'close', 'volume', 'amount', or 'range': log(high/low)
    level      DOUBLE    NOT NULL,       -- quantile level, 0 … 1
    value      DOUBLE    NOT NULL,       -- in prices as quoted at the origin
    in_sample  BOOLEAN   NOT NULL        -- the origin is not after the checkpoint's cutoff
);

-- Undefined scores have no row: MASE of a price that never moved, the direction of a flat forecast. No key, for the
-- reason given at `forecasts`; scores are replaced and inserted in one transaction.
CREATE TABLE IF NOT EXISTS forecast_scores (
    model      VARCHAR   NOT NULL,
    checkpoint VARCHAR   NOT NULL,
    symbol     VARCHAR   NOT NULL,       -- '*': a score across the symbols of an origin
    origin     TIMESTAMP NOT NULL,
    step       INTEGER   NOT NULL,       -- in bars after the origin
    metric     VARCHAR   NOT NULL,
    value      DOUBLE    NOT NULL
);

-- The actuals that scores were computed against: when one changes, its forecasts are scored again.
CREATE TABLE IF NOT EXISTS scored_actuals (
    symbol     VARCHAR   NOT NULL,
    origin     TIMESTAMP NOT NULL,
    step       INTEGER   NOT NULL,
    actual     DOUBLE    NOT NULL,       -- close at the target, in prices as quoted at the origin
    last_close DOUBLE    NOT NULL,       -- close at the origin
    scale      DOUBLE                    -- denominator of MASE
);

-- Scores of every model against every baseline, with bootstrap intervals.
CREATE TABLE IF NOT EXISTS scoreboard (
    model      VARCHAR NOT NULL,
    metric     VARCHAR NOT NULL,
    horizon    INTEGER NOT NULL,         -- a step; 0: all steps together
    value      DOUBLE  NOT NULL,         -- mean over origins
    low        DOUBLE,                   -- lower bound of the interval; null: too few origins
    high       DOUBLE,                   -- upper bound
    n          BIGINT  NOT NULL,         -- number of origins
    baseline   VARCHAR NOT NULL,         -- model that the skill refers to
    skill      DOUBLE,                   -- losses: 1 − value / baseline's value; other metrics: the difference
    skill_low  DOUBLE,                   -- lower bound of the interval
    skill_high DOUBLE,                   -- upper bound
    verdict    VARCHAR NOT NULL,         -- comparison with the baseline, as text
    forward    BIGINT DEFAULT 0,         -- origins of n that were forecast before the target's session began
    PRIMARY KEY (model, metric, horizon, baseline)
);

-- Risk measures read off the stored forecasts. The loss is the negative log return from the close at the origin.
CREATE TABLE IF NOT EXISTS forecast_risk (
    model      VARCHAR   NOT NULL,
    checkpoint VARCHAR   NOT NULL,
    symbol     VARCHAR   NOT NULL,
    origin     TIMESTAMP NOT NULL,       -- the last bar that the forecast used
    step       INTEGER   NOT NULL,       -- in bars after the origin; of a drawdown or touch the last one that counts
    target_ts  TIMESTAMP NOT NULL,       -- timestamp of the bar of that step
    measure    VARCHAR   NOT NULL,       -- 'var' (value at risk), 'es' (expected shortfall): losses; 'drawdown', 'touch':
                                         -- probabilities
    level      DOUBLE    NOT NULL,       -- var, es: probability of a larger loss; drawdown: its size as a fraction; touch:
                                         -- distance from the last close as a fraction, negative: below
    value      DOUBLE    NOT NULL,
    method     VARCHAR   NOT NULL,       -- where the value comes from: 'quantile', 'interpolated', 'outcomes' (the tail
                                         -- of earlier outcomes), 'student' (until there are enough), 'paths'
    outcomes   INTEGER   NOT NULL        -- earlier outcomes beyond the value at risk that the tail was learnt from, or
                                         -- sample paths
);

-- Backtests of forecast_risk, out of sample.
CREATE TABLE IF NOT EXISTS risk_backtest (
    model            VARCHAR NOT NULL,
    step             INTEGER NOT NULL,
    measure          VARCHAR NOT NULL,   -- as in forecast_risk
    level            DOUBLE  NOT NULL,
    forecasts        BIGINT  NOT NULL,   -- with an outcome: score, skill and es_z are of these
    n                BIGINT  NOT NULL,   -- of these, per symbol, forecasts whose horizons do not overlap: the other tests
                                         -- are of these
    exceptions       BIGINT  NOT NULL,   -- of n: losses beyond the value at risk, or events
    expected         DOUBLE  NOT NULL,   -- of n
    rate_low         DOUBLE,             -- interval of exceptions / n, by blocks of dates; null: too few origins
    rate_high        DOUBLE,
    block_p          DOUBLE,             -- p of exceptions as expected, by blocks of dates: symbols may depend on each other
    kupiec_p         DOUBLE,             -- the same with independent outcomes; null: not defined for the measure
    christoffersen_p DOUBLE,             -- p of exceptions that do not cluster in time; null: there is none to follow
    conditional_p    DOUBLE,             -- p of both
    score            DOUBLE,             -- var: quantile score, % of log return; drawdown, touch: Brier score
    baseline         VARCHAR,            -- what the skill refers to: a model, or 'base_rate', the past share of the symbol
    baseline_score   DOUBLE,             -- over the forecasts that both made
    skill            DOUBLE,             -- 1 − score / baseline_score
    skill_low        DOUBLE,
    skill_high       DOUBLE,
    es_z             DOUBLE,             -- es: second statistic of Acerbi and Szekely (2014); below 0: losses beyond the
                                         -- value at risk are larger or more frequent than forecast
    es_p             DOUBLE,             -- p of es_z = 0, by blocks of dates
    reliability      DOUBLE,             -- drawdown, touch: the part of the Brier score that calibration would remove
    PRIMARY KEY (model, step, measure, level)
);

-- Ranking signals of the backtest.
CREATE TABLE IF NOT EXISTS signals (
    model      VARCHAR   NOT NULL,
    checkpoint VARCHAR   NOT NULL,
    symbol     VARCHAR   NOT NULL,
    origin     TIMESTAMP NOT NULL,
    value      DOUBLE    NOT NULL,       -- expected simple return over the horizon
    PRIMARY KEY (model, symbol, origin)
);

-- Forecasts that have no signals, in the order of the report.
CREATE TABLE IF NOT EXISTS signal_omissions (
    position  INTEGER NOT NULL PRIMARY KEY,
    model     VARCHAR NOT NULL,
    forecasts BIGINT  NOT NULL,       -- their number
    reason    VARCHAR NOT NULL
);

-- Summary metrics of each model's backtest.
CREATE TABLE IF NOT EXISTS backtests (
    model  VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    value  DOUBLE  NOT NULL,
    PRIMARY KEY (model, metric)
);

-- Daily results of each model's backtest.
CREATE TABLE IF NOT EXISTS backtest_days (
    model     VARCHAR NOT NULL,
    session   DATE    NOT NULL,
    gross     DOUBLE  NOT NULL,          -- return before costs, as a fraction of the portfolio's value
    cost      DOUBLE  NOT NULL,          -- costs, as a fraction
    net       DOUBLE  NOT NULL,          -- return after costs, as a fraction
    benchmark DOUBLE  NOT NULL,          -- return of the equal-weight benchmark, as a fraction
    turnover  DOUBLE  NOT NULL,          -- traded value, as a fraction
    PRIMARY KEY (model, session)
);

-- Bars adjusted for splits and dividends as of the newest bar. `growth` is the product of 1 / price_factor of all actions
-- up to a bar. The factor of bar s as of bar o is growth(s) / growth(o): no later action changes it, not even in its
-- last bit.
CREATE VIEW IF NOT EXISTS adjusted_bars AS
WITH action AS (
    SELECT symbol, ex_date,
           product(price_factor)                            AS price_factor,
           product(CASE kind WHEN 'split' THEN value ELSE 1 END) AS split
    FROM corporate_actions
    GROUP BY symbol, ex_date
),
cumulative AS (
    SELECT symbol, ex_date,
           product(1 / price_factor) OVER (PARTITION BY symbol ORDER BY ex_date) AS growth,
           product(split) OVER (PARTITION BY symbol ORDER BY ex_date)            AS shares
    FROM action
),
grown AS (
    SELECT b.*, coalesce(c.growth, 1) AS growth, coalesce(c.shares, 1) AS shares
    FROM bars b ASOF LEFT JOIN cumulative c ON b.symbol = c.symbol AND b.session >= c.ex_date
),
-- Not from `grown`, which a query of some days does not compute for all bars.
newest AS (
    SELECT symbol, frequency, arg_max(session, ts) AS session FROM bars GROUP BY symbol, frequency
),
latest AS (
    SELECT n.symbol, n.frequency, coalesce(c.growth, 1) AS growth_now, coalesce(c.shares, 1) AS shares_now
    FROM newest n ASOF LEFT JOIN cumulative c ON n.symbol = c.symbol AND n.session >= c.ex_date
)
SELECT g.symbol, g.ts, g.session, g.frequency,
       g.open  * g.growth / l.growth_now AS open,
       g.high  * g.growth / l.growth_now AS high,
       g.low   * g.growth / l.growth_now AS low,
       g.close * g.growth / l.growth_now AS close,
       g.volume * l.shares_now / g.shares AS volume,
       g.amount,
       g.growth, g.shares, g.flags
FROM grown g JOIN latest l USING (symbol, frequency);

-- Forecasts made from a bar that was corrected, added or withdrawn since. Of `drift` every bar up to the origin counts, of
-- the other baselines those of a year, of models the bars of their context.
CREATE VIEW IF NOT EXISTS made_from_corrected_bars AS
WITH recipe AS (
    SELECT model, checkpoint, coalesce(json_extract_string(recipe, '$.frequency'), '1d') AS frequency,
           coalesce(
               greatest((recipe->>'$.context_length')::BIGINT, (recipe->>'$.lookback_window')::BIGINT),
               CASE WHEN model <> 'drift' THEN (recipe->>'$.year')::BIGINT + 1 END,
               1000000000
           ) AS bars
    FROM forecast_recipes
),
version AS (
    SELECT symbol, frequency, ts, available_at FROM bars
    UNION ALL
    SELECT symbol, frequency, ts, max(available_at) FROM bar_versions ANTI JOIN bars USING (symbol, frequency, ts)
    WHERE withdrawn GROUP BY ALL
),
used AS (
    SELECT v.symbol, v.frequency, v.ts, r.bars,
           max(v.available_at) OVER (
               PARTITION BY r.bars, v.frequency, v.symbol ORDER BY v.ts ROWS BETWEEN r.bars - 1 PRECEDING AND CURRENT ROW
           ) AS available_at
    FROM version v JOIN (SELECT DISTINCT frequency, bars FROM recipe) r USING (frequency)
)
SELECT f.model, f.checkpoint, f.symbol, f.origin, f.made_at, u.available_at AS corrected_at
FROM forecasts f
JOIN recipe r USING (model, checkpoint)
JOIN used u ON u.symbol = f.symbol AND u.ts = f.origin AND u.frequency = r.frequency AND u.bars = r.bars
WHERE u.available_at > f.made_at;
