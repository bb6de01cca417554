-- A fingerprint of each symbol's bars and corporate actions in a range of sessions.
WITH own AS (
    SELECT symbol, count(*) AS bars, bit_xor(hash(ts, open, high, low, close)) AS content
    FROM bars
    WHERE
        frequency = $frequency
        AND session BETWEEN $first AND $last
        AND ($symbols IS NULL OR list_contains($symbols, symbol))
        AND {own_bars}
    GROUP BY symbol
),

factors AS (
    SELECT symbol, bit_xor(hash(ex_date, kind, price_factor)) AS content
    FROM corporate_actions
    WHERE ex_date <= $last
    GROUP BY symbol
)

SELECT own.symbol, own.bars, own.content::VARCHAR AS content, coalesce(factors.content, 0)::VARCHAR AS actions
FROM own LEFT JOIN factors ON factors.symbol = own.symbol
ORDER BY own.symbol
