-- From rows that keep the contract to bars in prices as quoted, with the corporate actions that the payload tells of.
-- One payload's adjusted closes belong together; two payloads' do not, so everything here looks within one payload.
-- Only where a payload needs it (contract.py): adjusted closes without actions, or prices that are not as quoted.

CREATE OR REPLACE TEMP TABLE kept AS
WITH good AS (
    SELECT j.* EXCLUDE (rule), p.basis, p.actions AS told_by, r.factor
    FROM judged AS j
    JOIN payloads AS p ON p.number = j.payload
    JOIN received AS r ON r.payload = j.payload AND r.row = j.row
    LEFT JOIN sorted_out AS s ON s.payload = j.payload AND s.row = j.row
    WHERE j.rule IS NULL AND s.fate IS NULL
),
-- Shares that one share of this bar has become by the payload's end.
later AS (
    SELECT *,
           CASE WHEN basis = 'split-adjusted'
                THEN product(coalesce(split, 1)) OVER (PARTITION BY payload, symbol)
                     / product(coalesce(split, 1)) OVER (PARTITION BY payload, symbol ORDER BY ts)
                WHEN basis = 'factor' THEN 1 / factor
                ELSE 1 END AS scale,
           CASE WHEN basis = 'factor' THEN close ELSE adj_close END AS adjusted
    FROM good
),
quoted AS (
    SELECT payload, row, symbol, ts, session, told_by,
           open * scale AS open, high * scale AS high, low * scale AS low, close * scale AS close,
           volume / scale AS volume, amount,
           CASE WHEN basis = 'split-adjusted' THEN dividend * scale ELSE dividend END AS dividend, split, adjusted
    FROM later
),
-- How finely the adjusted close is written: one unit of its last digit.
grains AS (
    SELECT payload,
           CASE WHEN max(abs(adjusted * 1e2 - round(adjusted * 1e2))) < 1e-6 THEN 1e-2
                WHEN max(abs(adjusted * 1e4 - round(adjusted * 1e4))) < 1e-6 THEN 1e-4
                ELSE 1e-6 END AS grain
    FROM quoted GROUP BY payload
),
neighbours AS (
    SELECT *, lag(close) OVER before AS previous,
           -- Growth of one share: above 1 where a dividend was paid or shares were split.
           (adjusted / lag(adjusted) OVER before) / (close / lag(close) OVER before) AS growth,
           -- Below 5e-5, or below its last digit, a change of the factor is rounding: dividends are larger.
           greatest(5e-5, 0.6 * grain * (1 / adjusted + 1 / lag(adjusted) OVER before)) AS noise
    FROM quoted JOIN grains USING (payload)
    WINDOW before AS (PARTITION BY payload, symbol ORDER BY ts)
),
ratios AS (
    SELECT n.*, n.dividend IS NULL AND n.split IS NULL AND n.adjusted IS NOT NULL AS derives,
           (SELECT ratio FROM split_ratios AS s
            WHERE abs(n.growth / s.ratio - 1) < 0.02 AND abs(n.close / n.previous * s.ratio - 1) < 0.25
            ORDER BY abs(n.growth / s.ratio - 1) LIMIT 1) AS ratio
    FROM neighbours AS n
)
SELECT payload, row, symbol, ts, session, open, high, low, close, volume, amount,
       CASE WHEN NOT derives THEN dividend
            WHEN abs(growth / coalesce(ratio, 1) - 1) < noise THEN 0
            ELSE round((1 - coalesce(ratio, 1) / growth) * previous / coalesce(ratio, 1), 6) END AS dividend,
       CASE WHEN NOT derives THEN split WHEN growth IS NOT NULL THEN coalesce(ratio, 1) END AS split,
       CASE WHEN derives THEN 'derived from adjusted close'
            WHEN dividend IS NOT NULL OR split IS NOT NULL THEN told_by END AS actions
FROM ratios;
