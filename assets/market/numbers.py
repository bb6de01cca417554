"""Numbers written as text: which decimal mark a payload uses, told from its own prices."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from resources.errors import CandlecastError

# Blanks, no-break spaces and apostrophes between thousands are no part of a number.
_BARE = "regexp_replace({c}, '[\\s\\x{00A0}\\x{202F}''’]', '', 'g')"
_ANY_COMMA = "SELECT bool_or(contains(text, ',')) FROM (SELECT unnest([{columns}]) AS text FROM payload)"
_EVIDENCE = """
SELECT count(*) FILTER (regexp_matches(text, '^-?\\d+,\\d+$|^-?\\d{{1,3}}(\\.\\d{{3}})+,\\d+$')
                        AND NOT regexp_matches(text, '^-?\\d{{1,3}}(,\\d{{3}})+$')) AS comma,
       count(*) FILTER (regexp_matches(text, '^-?(\\d{{1,3}}(,\\d{{3}})*|\\d+)\\.\\d+$')
                        AND NOT regexp_matches(text, '^-?\\d{{1,3}}(\\.\\d{{3}})+$')) AS point,
       count(*) FILTER (regexp_matches(text, '^-?\\d{{1,3}}(,\\d{{3}})+$')) AS either
FROM (SELECT unnest([{columns}]) AS text FROM payload)
"""
# Separators only where thousands have them: anything else is no number.
_MARKED = """try_cast(
    CASE WHEN contains({{c}}, '{thousands}')
          AND NOT regexp_full_match({{c}}, '-?\\d{{1,3}}([{thousands}]\\d{{3}})+([{mark}]\\d*)?')
         THEN '?' ELSE replace(replace({{c}}, '{thousands}', ''), '{mark}', '.') END AS DOUBLE)"""
_POINT = _MARKED.format(thousands=",", mark=".")
_COMMA = _MARKED.format(thousands=".", mark=",")


def number_template(connection: duckdb.DuckDBPyConnection, prices: Sequence[str], file: str) -> str:
    """The SQL that reads a number of the view `payload`, with `{c}` for the text column.

    Args:
        prices: quoted names of the price columns that hold text.

    Raises:
        CandlecastError: 1,234 could be a thousand or a little more than one.
    """
    columns = ", ".join(prices)
    if not prices or not connection.execute(_ANY_COMMA.format(columns=columns)).fetchall()[0][0]:
        return _POINT.replace("{c}", "trim({c})")
    bare = ", ".join(_BARE.replace("{c}", price) for price in prices)
    comma, point, either = connection.execute(_EVIDENCE.format(columns=bare)).fetchall()[0]
    if comma == point == 0 < either:
        raise CandlecastError(
            f"{file}: prices such as 1,234 have two readings: write them without separators of thousands"
        )
    template = _COMMA if comma > point else _POINT
    return template.replace("{c}", _BARE)
