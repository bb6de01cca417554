"""Numbers written as text: which decimal mark a payload uses, told from its own prices, and where those are whole, from
its other numbers."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from resources.errors import CandlecastError

# Blanks, no-break spaces and apostrophes between thousands are no part of a number; anywhere else it is none.
_BLANK = "[\\s\\x{00A0}\\x{202F}''’]"
_BARE = f"""regexp_replace({{c}}, CASE
    WHEN regexp_full_match({{c}}, '\\s*-?[1-9]\\d{{0,2}}({_BLANK}\\d{{3}})+([.,]\\d*)?\\s*') THEN '{_BLANK}'
    ELSE '^{_BLANK}+|{_BLANK}+$' END, '', 'g')"""
_ANY_MARK = """
SELECT bool_or(contains(text, ',') OR text LIKE '%.%.%') FROM (SELECT unnest([{columns}]) AS text FROM payload)
"""
# A group of thousands never begins with 0, so 0,123 is a fraction; and two groups are thousands.
_EVIDENCE = """
SELECT count(*) FILTER (regexp_matches(text, '^-?\\d+,\\d+$|^-?[1-9]\\d{{0,2}}(\\.\\d{{3}})+(\\.\\d{{3}}|,\\d+)$')
                        AND NOT regexp_matches(text, '^-?[1-9]\\d{{0,2}},\\d{{3}}$')) AS comma,
       count(*) FILTER (regexp_matches(text, '^-?\\d+\\.\\d+$|^-?[1-9]\\d{{0,2}}(,\\d{{3}})+(,\\d{{3}}|\\.\\d+)$')
                        AND NOT regexp_matches(text, '^-?[1-9]\\d{{0,2}}\\.\\d{{3}}$')) AS point,
       count(*) FILTER (regexp_matches(text, '^-?[1-9]\\d{{0,2}},\\d{{3}}$')) AS either
FROM (SELECT unnest([{columns}]) AS text FROM payload)
"""
# Separators only where thousands have them: anything else is no number. 1_0 is one to DuckDB, and to nobody else.
_MARKED = """try_cast(
    CASE WHEN contains({{c}}, '_') OR contains({{c}}, '{thousands}')
          AND NOT regexp_full_match({{c}}, '-?[1-9]\\d{{0,2}}([{thousands}]\\d{{3}})+([{mark}]\\d*)?')
         THEN '?' ELSE replace(replace({{c}}, '{thousands}', ''), '{mark}', '.') END AS DOUBLE)"""
_POINT = _MARKED.format(thousands=",", mark=".")
_COMMA = _MARKED.format(thousands=".", mark=",")


def number_template(
    connection: duckdb.DuckDBPyConnection, prices: Sequence[str], others: Sequence[str], file: str
) -> str:
    """The SQL that reads a number of the view `payload`, with `{c}` for the text column.

    Args:
        prices, others: quoted names of the columns that hold text: of prices, and of other numbers.

    Raises:
        CandlecastError: 1,234 could be a thousand or a little more than one.
    """
    columns = ", ".join([*prices, *others])
    if not columns or not connection.execute(_ANY_MARK.format(columns=columns)).fetchall()[0][0]:
        return _POINT.replace("{c}", "trim({c})")
    comma, point, either = _evidence(connection, prices)
    # A few odd cells do not decide about the others.
    if 100 * max(comma, point) < either:
        raise CandlecastError(
            f"{file}: prices such as 1,234 have two readings: write them without separators of thousands"
        )
    if comma == point:
        comma, point, either = _evidence(connection, others)
        point = max(point, either)
    template = _COMMA if comma > point else _POINT
    return template.replace("{c}", _BARE)


def _evidence(connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> tuple[int, int, int]:
    """How many cells have a decimal comma, a decimal point, or a comma that could be either."""
    if not columns:
        return 0, 0, 0
    bare = ", ".join(_BARE.replace("{c}", column) for column in columns)
    comma, point, either = connection.execute(_EVIDENCE.format(columns=bare)).fetchall()[0]
    return comma, point, either
