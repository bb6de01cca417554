"""Parsing of timestamps in text or numbers: the format of a payload, inferred from its values.

A payload has one format, the most frequent one. Rows in another format are rejected with the name of the rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from resources.errors import CandlecastError

# The table that `read_stamps` creates.
STAMPS = "stamps"
# Z, an offset, an abbreviation such as EST, or a place such as US/Eastern.
_OFFSET = r"(?:UTC|GMT)?[+-]\d{2}:?\d{2}|(?:UTC|GMT)?[+-]\d{2}"
_PLACE = r" +[A-Za-z]{2,}(?:/[A-Za-z_]+)+| +[A-Z]{3,5}"
_ZONE = rf"(?P<zone>\s*(?:Z|UTC|GMT|{_OFFSET})|{_PLACE})?"
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?: ?[AaPp][Mm])?|\d{1,2}-[AaPp][Mm]|\d{6}|\d{4}"
_CLOCK = rf"(?:[T ]+(?:{_TIME})" + _ZONE + r")?$"
# Abbreviations of one meaning: hours ahead of UTC. CST and IST have several.
_ABBREVIATIONS = {
    "EST": -5,
    "EDT": -4,
    "CDT": -5,
    "MST": -7,
    "MDT": -6,
    "PST": -8,
    "PDT": -7,
    "WET": 0,
    "WEST": 1,
    "CET": 1,
    "CEST": 2,
    "EET": 2,
    "EEST": 3,
    "MSK": 3,
    "SGT": 8,
    "HKT": 8,
    "JST": 9,
    "KST": 9,
    "AEST": 10,
    "AEDT": 11,
}
_FAMILIES = {
    "ymd": re.compile(r"^\d{4}(?P<mark>[-/.])\d{1,2}(?P=mark)\d{1,2}" + _CLOCK),
    "joined": re.compile(r"^(?P<mark>)(?:19|20)\d{2}(?:0\d|1[0-2])[0-3]\d[0-2]\d[0-5]\d(?:[0-5]\d(?:\d{3})?)?$"),
    "compact": re.compile(r"^(?P<mark>)(?:19|20)\d{6}" + _CLOCK),
    "dmy or mdy": re.compile(r"^\d{1,2}(?P<mark>[-/.])\d{1,2}(?P=mark)\d{4}" + _CLOCK),
    "day month name": re.compile(r"^\d{1,2}(?P<mark>[- ])[A-Za-z]{3}(?P=mark)\d{4}" + _CLOCK),
    "day full month": re.compile(r"^\d{1,2}(?P<mark>[- ])[A-Za-z]{4,9}(?P=mark)\d{4}" + _CLOCK),
    "month name day": re.compile(r"^(?P<mark>)[A-Za-z]{3} \d{1,2}, \d{4}" + _CLOCK),
    "epoch": re.compile(r"^(?P<mark>)\d{9,10}(?:\.\d+)?$|^\d{12,13}$|^\d{15,16}$|^\d{18,19}$"),
}
_DATES = {
    "ymd": "%Y{m}%m{m}%d",
    "joined": "%Y%m%d",
    "compact": "%Y%m%d",
    "dmy": "%d{m}%m{m}%Y",
    "mdy": "%m{m}%d{m}%Y",
    "day month name": "%d{m}%b{m}%Y",
    "day full month": "%d{m}%B{m}%Y",
    "month name day": "%b %d, %Y",
}
_FORMATS = {
    "ymd": "year{m}month{m}day",
    "joined": "digits, year to second",
    "compact": "yearmonthday",
    "dmy": "day{m}month{m}year",
    "mdy": "month{m}day{m}year",
    "day month name": "day{m}Mon{m}year",
    "day full month": "day{m}month{m}year",
    "month name day": "Mon day, year",
}
_EPOCH_UNITS = {10: 1.0, 13: 1e3, 16: 1e6, 19: 1e9}

_SHAPES = """
SELECT shape, min(text) AS example, sum(rows)::BIGINT AS rows
FROM texts GROUP BY shape ORDER BY rows DESC, shape
"""
# Texts of one shape match the same pattern above, so one example per shape is enough: the shape keeps the letters of T
# and of time zones, marks AM and PM, and eight digits that do not begin with a year 19xx or 20xx.
_MAKE_TEXTS = """
CREATE OR REPLACE TEMP TABLE texts AS
SELECT text, count(*) AS rows,
       CASE WHEN regexp_matches(trim(text), '^[0-9]{{8}}([^0-9]|$)') AND NOT regexp_matches(trim(text), '^(19|20)')
            THEN '?' WHEN regexp_matches(trim(text), '(:[0-9]{{2}} ?|[0-9]-)[AaPp][Mm]$') THEN '!' ELSE '' END
       || regexp_replace(regexp_replace(trim(text), '[0-9]', '9', 'g'), '[ABD-FH-LN-SV-Ya-z]', 'a', 'g') AS shape
FROM {values} WHERE trim(text) <> '' GROUP BY text
"""
_MAKE_STAMPS = """
CREATE OR REPLACE TEMP TABLE stamps (
    text VARCHAR PRIMARY KEY,
    local TIMESTAMP,         -- as written, without the time zone
    instant TIMESTAMP,       -- in UTC, for texts with a time zone and for epochs
    problem VARCHAR          -- name of the rule that the text violates
)
"""
_SQL_ZONE = (
    "\\s*(Z|UTC|GMT|(UTC|GMT)?[+-]\\d{2}:?\\d{2}|(UTC|GMT)?[+-]\\d{2})$| +[A-Za-z]{2,}(/[A-Za-z_]+)+$| +[A-Z]{3,5}$"
)
_ABBREVIATED = " ".join(f"WHEN '{name}' THEN {hours * 3600}" for name, hours in _ABBREVIATIONS.items())
_PARSE = f"""
INSERT INTO stamps
WITH written AS (
    SELECT text, zone, trim(text)[: length(trim(text)) - length(zone)] AS bare
    FROM (SELECT text,
                 CASE WHEN regexp_matches(trim(text), '[T ][0-9]{{{{1,2}}}}(:|[0-9]{{{{2}}}}|-[AaPp])')
                       AND NOT regexp_matches(trim(text), '[0-9 -][AaPp][Mm]$')
                      THEN regexp_extract(trim(text), '{_SQL_ZONE.replace("{", "{{").replace("}", "}}")}', 0)
                      ELSE '' END AS zone
          FROM texts WHERE list_contains($shapes, shape))
),
parsed AS (
    SELECT text, trim(zone) AS zone, coalesce({{attempts}}) AS local FROM written
),
-- No time zone is more than 14 hours from UTC: -50:00 is a typing error.
ahead AS (
    SELECT text, local, zone, replace(regexp_replace(zone, '^(UTC|GMT)([+-])', '\\2'), ':', '') AS shift,
           CASE WHEN zone IN ('', 'Z', 'UTC', 'GMT') THEN 0
                WHEN regexp_full_match(shift, '[+-](0[0-9]|1[0-4])([0-5][0-9])?')
                THEN (CASE WHEN shift[1] = '-' THEN -1 ELSE 1 END)
                     * (shift[2:3]::INTEGER * 3600 + coalesce(try_cast(shift[4:5] AS INTEGER), 0) * 60)
                ELSE CASE zone {_ABBREVIATED} END END AS seconds,
           CASE WHEN contains(zone, '/') AND zone IN (SELECT name FROM pg_timezone_names()) THEN zone END AS place
    FROM parsed
),
placed AS (
    SELECT *, timezone(place, local) AS moment FROM ahead
)
SELECT text, local, CASE WHEN zone <> '' THEN coalesce(timezone('UTC', moment), local - to_seconds(seconds)) END,
       CASE WHEN local IS NULL THEN 'unreadable_date'
            WHEN seconds IS NULL AND place IS NULL
            THEN CASE WHEN regexp_matches(zone, '[A-Za-z]') THEN 'unknown_time_zone' ELSE 'unreadable_date' END
            WHEN timezone(place, moment) <> local THEN 'no_such_local_time'
            WHEN timezone(place, moment + INTERVAL 1 HOUR) = local OR timezone(place, moment - INTERVAL 1 HOUR) = local
            THEN 'ambiguous_local_time' END
FROM placed
"""
_EPOCH = """
INSERT INTO stamps
SELECT text, moment, moment, CASE WHEN moment IS NULL THEN 'unreadable_date' END
FROM (SELECT text, make_timestamp((try_cast(text AS DOUBLE) / $unit * 1e6)::BIGINT) AS moment
      FROM texts WHERE list_contains($shapes, shape))
"""
_REJECT = """
INSERT INTO stamps SELECT text, NULL, NULL, $problem FROM texts WHERE list_contains($shapes, shape)
"""
# An impossible date counts twice: a stray row at a weekend is more likely than a row with a thirteenth month.
_MISMATCHES = """
SELECT count(*) FILTER (t.day IS NULL) * 2 + count(*) FILTER (t.day IS NOT NULL AND e.session IS NULL)
FROM (SELECT try_strptime(split_part(trim(text), ' ', 1), '{format}') AS day
      FROM texts WHERE list_contains($shapes, shape)) AS t
LEFT JOIN exchange_days AS e ON t.day::DATE = e.session
"""
# In the wrong order two of three dates are sessions by chance, so a difference of one date is no evidence.
_MARGIN = 2


@dataclass(frozen=True)
class _Shape:
    """All texts that differ in their digits and letters only."""

    shape: str
    rows: int
    family: str | None
    mark: str
    zoned: bool


def read_stamps(connection: duckdb.DuckDBPyConnection, values: str, file: str, order: str | None) -> str:
    """Create the table `stamps` from the column `text` of the table or view `values`. Needs the table `exchange_days`.

    Args:
        order: `market.date_order`, the order of dates such as 03/04/2012; None: inferred.

    Returns:
        The format that was inferred, such as "day/month/year"; empty: none.

    Raises:
        CandlecastError: the order of day and month is ambiguous.
    """
    connection.execute(_MAKE_TEXTS.format(values=values))
    connection.execute(_MAKE_STAMPS)
    shapes = [_shape_of(*row) for row in connection.execute(_SHAPES).fetchall()]
    known = [shape for shape in shapes if shape.family]
    _reject(connection, [shape for shape in shapes if not shape.family], "unreadable_date")
    if not known:
        return ""
    kinds: dict[tuple[str | None, str], int] = {}
    for shape in known:
        kinds[shape.family, shape.mark] = kinds.get((shape.family, shape.mark), 0) + shape.rows
    family, mark = max(kinds, key=lambda kind: kinds[kind])
    main = [shape for shape in known if (shape.family, shape.mark) == (family, mark)]
    _reject(connection, [shape for shape in known if shape not in main], "mixed_date_format")
    zoned = sum(shape.rows for shape in main if shape.zoned) * 2 > sum(shape.rows for shape in main)
    _reject(connection, [shape for shape in main if shape.zoned != zoned], "mixed_time_zone")
    wanted = [shape.shape for shape in main if shape.zoned == zoned]
    if family == "epoch":
        for digits, unit in _EPOCH_UNITS.items():
            own = [shape for shape in wanted if len(shape.split(".")[0]) in (digits, digits - 1)]
            if own:
                connection.execute(_EPOCH, {"shapes": own, "unit": unit})
        return "epoch"
    if family == "dmy or mdy":
        family = _order(connection, wanted, mark, file, order)
    connection.execute(_PARSE.format(attempts=_attempts(str(family), mark)), {"shapes": wanted})
    return _FORMATS[str(family)].format(m=mark)


def _shape_of(shape: str, example: str, rows: int) -> _Shape:
    for family, pattern in _FAMILIES.items():
        if found := pattern.match(example.strip()):
            zoned = family == "epoch" or bool(found.groupdict().get("zone"))
            return _Shape(shape, rows, family, found["mark"] or "", zoned)
    return _Shape(shape, rows, None, "", False)


def _reject(connection: duckdb.DuckDBPyConnection, shapes: Sequence[_Shape], problem: str) -> None:
    if shapes:
        connection.execute(_REJECT, {"shapes": [shape.shape for shape in shapes], "problem": problem})


def _order(
    connection: duckdb.DuckDBPyConnection, shapes: Sequence[str], mark: str, file: str, configured: str | None
) -> str:
    """Day first or month first: the order with clearly fewer impossible dates and dates that are no sessions."""
    if configured in ("dmy", "mdy"):
        return configured
    mismatches = {}
    for order in ("dmy", "mdy"):
        sql = _MISMATCHES.format(format=_DATES[order].format(m=mark))
        mismatches[order] = connection.execute(sql, {"shapes": list(shapes)}).fetchall()[0][0]
    if abs(mismatches["dmy"] - mismatches["mdy"]) < _MARGIN:
        raise CandlecastError(
            f'{file}: dates are ambiguous, day first or month first: set market.date_order = "dmy" or "mdy"'
        )
    return min(mismatches, key=lambda order: mismatches[order])


# 20240102093000500 as 20240102 09:30:00.500.
_SEPARATED = """bare[:8] || ' ' || bare[9:10] || ':' || bare[11:12]
    || CASE WHEN length(bare) > 12 THEN ':' || bare[13:14] ELSE '' END
    || CASE WHEN length(bare) > 14 THEN '.' || bare[15:] ELSE '' END"""


def _attempts(family: str, mark: str) -> str:
    day = _DATES[family].format(m=mark)
    clocks = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %H:%M:%S.%n", " %H%M%S", " %H%M", " %I:%M:%S%p", " %I:%M%p")
    bare = "regexp_replace(replace(bare, 'T', ' '), ' +', ' ', 'g')" if "%b" not in day and "%B" not in day else "bare"
    bare = f"regexp_replace({bare}, ' ?([AaPp][Mm])$', '\\1')"
    bare = f"regexp_replace({bare}, '-([AaPp][Mm])$', ':00\\1')"
    if family == "joined":
        bare = _SEPARATED
    return ", ".join(f"try_strptime({bare}, '{day}{clock}')::TIMESTAMP" for clock in clocks)
