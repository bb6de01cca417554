"""Parsing of numbers in text: the decimal mark of a payload, inferred from its prices, or from its other numbers if all
prices are whole."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from resources.errors import CandlecastError

# Spaces, no-break spaces and apostrophes are allowed as separators of thousands only.
_BLANK = "[\\s\\x{00A0}\\x{202F}''’]"
_BARE = f"""regexp_replace({{c}}, CASE
    WHEN regexp_full_match({{c}}, '\\s*-?[1-9]\\d{{0,2}}({_BLANK}\\d{{3}})+([.,]\\d*)?\\s*') THEN '{_BLANK}'
    ELSE '^{_BLANK}+|{_BLANK}+$' END, '', 'g')"""
_ANY_MARK = """
SELECT bool_or(contains(text, ',') OR text LIKE '%.%.%') FROM (SELECT unnest([{columns}]) AS text FROM payload)
"""
# A group of thousands never begins with 0, so 0,123 is a fraction. Two groups are always thousands.
_EVIDENCE = """
SELECT count(*) FILTER (regexp_matches(text, '^-?\\d+,\\d+$|^-?[1-9]\\d{{0,2}}(\\.\\d{{3}})+(\\.\\d{{3}}|,\\d+)$')
                        AND NOT regexp_matches(text, '^-?[1-9]\\d{{0,2}},\\d{{3}}$')) AS comma,
       count(*) FILTER (regexp_matches(text, '^-?\\d+\\.\\d+$|^-?[1-9]\\d{{0,2}}(,\\d{{3}})+(,\\d{{3}}|\\.\\d+)$')
                        AND NOT regexp_matches(text, '^-?[1-9]\\d{{0,2}}\\.\\d{{3}}$')) AS point,
       count(*) FILTER (regexp_matches(text, '^-?[1-9]\\d{{0,2}},\\d{{3}}$')) AS either
FROM (SELECT unnest([{columns}]) AS text FROM payload)
"""
# Separators only between thousands: anything else is not a number. DuckDB alone would read 1_0 as a number.
_MARKED = """try_cast(
    CASE WHEN contains({{c}}, '_') OR contains({{c}}, '{thousands}')
          AND NOT regexp_full_match({{c}}, '-?[1-9]\\d{{0,2}}([{thousands}]\\d{{3}})+([{mark}]\\d*)?')
         THEN '?' ELSE replace(replace({{c}}, '{thousands}', ''), '{mark}', '.') END AS DOUBLE)"""
_POINT = _MARKED.format(thousands=",", mark=".")
_COMMA = _MARKED.format(thousands=".", mark=",")


def number_template(
    connection: duckdb.DuckDBPyConnection, prices: Sequence[str], others: Sequence[str], file: str
) -> str:
    """SQL that parses a number from a text column of the view `payload`, with `{c}` in place of the column.

    Args:
        prices, others: quoted names of the text columns with prices, and with other numbers.

    Raises:
        CandlecastError: the decimal mark is ambiguous, as in 1,234.
    """
    columns = ", ".join([*prices, *others])
    if not columns or not connection.execute(_ANY_MARK.format(columns=columns)).fetchall()[0][0]:
        return _POINT.replace("{c}", "trim({c})")
    comma, point, either = _evidence(connection, prices)
    # A few odd cells do not decide the decimal mark of all others.
    if 100 * max(comma, point) < either:
        raise CandlecastError(f"{file}: prices such as 1,234 are ambiguous: write them without separators of thousands")
    if comma == point:
        comma, point, either = _evidence(connection, others)
        point = max(point, either)
    template = _COMMA if comma > point else _POINT
    return template.replace("{c}", _BARE)


def _evidence(connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> tuple[int, int, int]:
    """Number of cells with a decimal comma, with a decimal point, and with a comma that could be either."""
    if not columns:
        return 0, 0, 0
    bare = ", ".join(_BARE.replace("{c}", column) for column in columns)
    comma, point, either = connection.execute(_EVIDENCE.format(columns=bare)).fetchall()[0]
    return comma, point, either
