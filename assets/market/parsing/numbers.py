"""Parsing of numbers in text: the decimal mark of a payload, inferred from its prices, or from its other numbers if all
prices are whole; and the marks around them: currency signs, K, M, B, 万 and 亿, and "N/A" or "-" for no number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from resources.errors import CandlecastError

# Spaces, no-break spaces and apostrophes are allowed as separators of thousands only.
_BLANK = "[\\s\\x{00A0}\\x{202F}''’]"
_CURRENCY = "$€£¥￥₹₩"
_NO_NUMBER = "(?i)^(#?n/?a|n\\.a\\.?|null|none|-+|[–—]+)$"
_SIGNS = f"^(-?)\\s*[{_CURRENCY}]\\s*|\\s*[{_CURRENCY}]$"
_BLANKED = f"regexp_replace(regexp_replace(trim({{c}}), '{_NO_NUMBER}', ''), '{_SIGNS}', '\\1')"
_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "万": 1e4, "萬": 1e4, "亿": 1e8, "億": 1e8}
# With a unit after it: 3.5万手 are 35,000 lots of a hundred.
_COUNTED = {"手": 100.0, "股": 1.0, "元": 1.0}
_SUFFIXES |= {
    f"{suffix}{unit}": factor * size
    for suffix, factor in {"": 1.0, "万": 1e4, "萬": 1e4, "亿": 1e8, "億": 1e8}.items()
    for unit, size in _COUNTED.items()
}
_SUFFIX = "[KkMmBbTt]|[万亿萬億]?[手股元]|[万亿萬億]"
_UNSUFFIXED = f"regexp_replace({{c}}, '([0-9.,])\\s*(?:{_SUFFIX})$', '\\1')"
_SUFFIX_FACTOR = (
    f"CASE lower(regexp_extract({{c}}, '[0-9.,]\\s*({_SUFFIX})$', 1)) "
    + " ".join(f"WHEN '{suffix}' THEN {factor:.0f}" for suffix, factor in _SUFFIXES.items())
    + " ELSE 1 END"
)
_BARE = f"""regexp_replace({{c}}, CASE
    WHEN regexp_full_match({{c}}, '\\s*-?[1-9]\\d{{0,2}}({_BLANK}\\d{{3}})+([.,]\\d*)?\\s*') THEN '{_BLANK}'
    ELSE '^{_BLANK}+|{_BLANK}+$' END, '', 'g')"""
_ANY_SIGN = f"[{_CURRENCY}KkMmBbTt万亿萬億手股元]|^\\s*-+\\s*$|^\\s*[–—]\\s*$|(?i)n/?a|n\\.a|null|none"
_ANY_MARK = f"""
SELECT bool_or(contains(text, ',') OR text LIKE '%.%.%'),
       bool_or(regexp_matches(text, '{_ANY_SIGN}'))
FROM (SELECT unnest([{{columns}}]) AS text FROM payload)
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


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a payload are written.

    Attributes:
        template: SQL that parses a cell, `{c}`, once it has no marks.
        decimal_mark: "." or ",".
        marked: whether cells have currency signs, suffixes such as K and M, or marks for "none".
    """

    template: str
    decimal_mark: str
    marked: bool = False

    def text(self, cell: str) -> str:
        """The SQL of a cell as text; "" where it says that there is no number."""
        return _BLANKED.replace("{c}", cell) if self.marked else f"trim({cell})"

    def value(self, cell: str) -> str:
        """The SQL of a cell as a number."""
        if not self.marked:
            return self.template.replace("{c}", cell)
        text = self.text(cell)
        number = self.template.replace("{c}", _UNSUFFIXED.replace("{c}", text))
        return f"round({number} * {_SUFFIX_FACTOR.replace('{c}', text)}, 8)"


def number_format(
    connection: duckdb.DuckDBPyConnection, prices: Sequence[str], others: Sequence[str], file: str
) -> NumberFormat:
    """The format of the numbers in text columns of the view `payload`.

    Args:
        prices, others: quoted names of the text columns with prices, and with other numbers.

    Raises:
        CandlecastError: the decimal mark is ambiguous, as in 1,234.
    """
    columns = ", ".join([*prices, *others])
    if not columns:
        return NumberFormat(_POINT.replace("{c}", "trim({c})"), ".")
    separated, marked = connection.execute(_ANY_MARK.format(columns=columns)).fetchall()[0]
    if not separated:
        return NumberFormat(_POINT.replace("{c}", "trim({c})"), ".", bool(marked))
    comma, point, either = _evidence(connection, prices)
    # A few odd cells do not decide the decimal mark of all others.
    if 100 * max(comma, point) < either:
        raise CandlecastError(f"{file}: prices such as 1,234 are ambiguous: write them without separators of thousands")
    if comma == point:
        comma, point, either = _evidence(connection, others)
        point = max(point, either)
    mark = "," if comma > point else "."
    return NumberFormat((_COMMA if mark == "," else _POINT).replace("{c}", _BARE), mark, bool(marked))


def _evidence(connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> tuple[int, int, int]:
    """Number of cells with a decimal comma, with a decimal point, and with a comma that could be either."""
    if not columns:
        return 0, 0, 0
    bare = ", ".join(_BARE.replace("{c}", column) for column in columns)
    comma, point, either = connection.execute(_EVIDENCE.format(columns=bare)).fetchall()[0]
    return comma, point, either
