-- From rows that keep the contract to bars in prices as quoted, with the corporate actions that the payload tells of.
-- What is derived at a bar follows from it and the bars before it: a later bar changes no action.
-- One payload's adjusted closes belong together; two payloads' do not, so everything here looks within one payload.
-- Only where a payload needs it (contract.py): adjusted closes without actions, or prices that are not as quoted. Rows
-- that another payload tells too are looked at like all others, and folded afterwards (fold.sql).

CREATE TEMP TABLE accepted AS
WITH good AS (
    SELECT v.* EXCLUDE (rule, acts), p.basis, p.actions AS stated_by
    FROM validated AS v
    JOIN payloads AS p ON p.number = v.payload
    LEFT JOIN duplicates AS d ON d.payload = v.payload AND d.row = v.row
    WHERE v.rule IS NULL AND d.outcome IS NULL
),
-- Shares that one share from before a split has become by the payload's end.
grown AS (
    SELECT payload, symbol, session,
           product(split) OVER (PARTITION BY payload, symbol ORDER BY session DESC) AS shares
    FROM splits
),
later AS (
    SELECT g.*,
           CASE WHEN g.basis = 'factor' THEN 1 / g.factor ELSE coalesce(s.shares, 1) END AS scale,
           CASE WHEN g.basis = 'factor' THEN g.close ELSE g.adj_close END AS adjusted
    FROM good AS g ASOF LEFT JOIN grown AS s
        ON s.payload = g.payload AND s.symbol = g.symbol AND g.session < s.session
),
quoted AS (
    SELECT payload, row, symbol, ts, session, stated_by,
           open * scale AS open, high * scale AS high, low * scale AS low, close * scale AS close,
           volume / scale AS volume, amount,
           CASE WHEN basis = 'split-adjusted' THEN dividend * scale ELSE dividend END AS dividend, split, adjusted
    FROM later
),
-- How finely the adjusted close is written so far: one unit of its last digit. Odd cells do not decide it.
grains AS (
    SELECT *,
           CASE WHEN avg((abs(adjusted * 1e2 - round(adjusted * 1e2)) < 1e-6)::INTEGER) OVER until > 0.5 THEN 1e-2
                WHEN avg((abs(adjusted * 1e4 - round(adjusted * 1e4)) < 1e-6)::INTEGER) OVER until > 0.5 THEN 1e-4
                ELSE 1e-6 END AS grain
    FROM quoted WINDOW until AS (PARTITION BY payload ORDER BY ts)
),
neighbours AS (
    SELECT *, lag(close) OVER before AS previous, lag(adjusted) OVER before AS before_adjusted,
           -- Growth of one share: above 1 where a dividend was paid or shares were split.
           (adjusted / lag(adjusted) OVER before) / (close / lag(close) OVER before) AS growth,
           -- Below 5e-5, or below its last digit, a change of the factor is rounding: dividends are larger.
           greatest(5e-5, 0.6 * grain * (1 / adjusted + 1 / lag(adjusted) OVER before)) AS noise
    FROM grains
    -- A bar without an adjusted close is passed over.
    WINDOW before AS (PARTITION BY payload, symbol, adjusted IS NULL ORDER BY ts)
),
-- The part of the growth that a stated dividend does not explain, and what a stated split leaves to explain.
unexplained AS (
    SELECT *, adjusted IS NOT NULL AND (dividend IS NULL OR split IS NULL) AS derives,
           growth / (1 + growth * coalesce(dividend, 0) / previous) AS shares
    FROM neighbours
),
ratios AS (
    SELECT n.*,
           CASE WHEN n.split IS NOT NULL THEN n.split
                ELSE (SELECT ratio FROM split_ratios AS s
                      -- More shares than the growth pays for would leave cash below zero.
                      WHERE n.shares / s.ratio - 1 BETWEEN -greatest(1e-3, n.noise) AND 0.02
                        AND abs(n.close / n.previous * s.ratio - 1) < 0.25
                      ORDER BY abs(n.shares / s.ratio - 1) LIMIT 1) END AS ratio
    FROM unexplained AS n
),
-- Cash below zero, growth that neither a stated dividend nor a split explains, or a dividend with which the total return
-- were a jump (flags.sql): no action does that, but a wrong adjusted close does.
doubted AS (
    SELECT * REPLACE (coalesce(ratio, 1) AS ratio),
           derives AND NOT coalesce(isfinite(growth) AND noise < 0.5 AND CASE
               WHEN dividend IS NULL
               THEN growth / coalesce(ratio, 1) - 1 > -greatest(noise, CASE WHEN ratio <> 1 THEN 1e-3 ELSE 0 END)
                    AND (adjusted / before_adjusted BETWEEN 1 / 1.4 AND 1.4
                         OR abs(growth / coalesce(ratio, 1) - 1) < greatest(0.02, noise))
               ELSE abs(shares / coalesce(ratio, 1) - 1) < greatest(0.02, noise) END, true) AS doubtful
    FROM ratios
),
-- One wrong adjusted close shows twice: the way back is no dividend. Beside a coarse one, a dividend below its last digit
-- may hide.
known AS (
    SELECT *, derives AND growth IS NOT NULL AND NOT doubtful
              AND NOT coalesce(lag(doubtful) OVER before AND abs(growth * lag(growth) OVER before - 1)
                               < 0.5 * abs(growth - 1), false) AS known,
           dividend IS NULL AND noise > 3e-3 AND abs(growth / ratio - 1) < noise AS hidden
    FROM doubted
    WINDOW before AS (PARTITION BY payload, symbol, adjusted IS NULL ORDER BY ts)
)
SELECT payload, row, symbol, ts, session, open, high, low, close, volume, amount,
       CASE WHEN dividend IS NOT NULL OR NOT known OR hidden THEN dividend
            WHEN abs(growth / ratio - 1) < noise THEN 0
            ELSE greatest(0, round((1 - ratio / growth) * previous / ratio, 6)) END AS dividend,
       CASE WHEN split IS NOT NULL OR NOT known OR hidden AND ratio = 1 THEN split ELSE ratio END AS split,
       CASE WHEN known AND hidden AND ratio <> 1 AND split IS NULL THEN 'derived from adjusted close, unknown'
            WHEN known AND NOT hidden AND (dividend IS NULL OR ratio <> 1) THEN 'derived from adjusted close'
            -- Also the first bar of a payload: what happened since the bar before is not in it.
            WHEN derives AND (hidden OR NOT known) THEN concat_ws(', ', CASE WHEN dividend IS NOT NULL
                                                                              OR split IS NOT NULL
                                                                        THEN stated_by END, 'unknown')
            WHEN dividend IS NOT NULL OR split IS NOT NULL THEN stated_by END AS actions,
       false AS folded
FROM known;
