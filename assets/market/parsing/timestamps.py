"""Reading stamps written as text or numbers: which format a payload uses, told from its own values.

One payload has one format. What is written otherwise is not guessed: those rows are rejected by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from resources.errors import CandlecastError

# Columns of the table that `read_stamps` makes.
STAMPS = "stamps"
_ZONE = r"(?P<zone>\s*(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2}))?"
_CLOCK = r"(?:[T ]+(?:\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?: ?[AaPp][Mm])?|\d{6}|\d{4})" + _ZONE + r")?$"
_FAMILIES = {
    "ymd": re.compile(r"^\d{4}(?P<mark>[-/.])\d{1,2}(?P=mark)\d{1,2}" + _CLOCK),
    "compact": re.compile(r"^(?P<mark>)(?:19|20)\d{6}" + _CLOCK),
    "dmy or mdy": re.compile(r"^\d{1,2}(?P<mark>[-/.])\d{1,2}(?P=mark)\d{4}" + _CLOCK),
    "day month name": re.compile(r"^\d{1,2}(?P<mark>[- ])[A-Za-z]{3}(?P=mark)\d{4}" + _CLOCK),
    "month name day": re.compile(r"^(?P<mark>)[A-Za-z]{3} \d{1,2}, \d{4}" + _CLOCK),
    "epoch": re.compile(r"^(?P<mark>)\d{9,10}(?:\.\d+)?$|^\d{12,13}$|^\d{15,16}$|^\d{18,19}$"),
}
_DATES = {
    "ymd": "%Y{m}%m{m}%d",
    "compact": "%Y%m%d",
    "dmy": "%d{m}%m{m}%Y",
    "mdy": "%m{m}%d{m}%Y",
    "day month name": "%d{m}%b{m}%Y",
    "month name day": "%b %d, %Y",
}
_EPOCH_UNITS = {10: 1.0, 13: 1e3, 16: 1e6, 19: 1e9}

_SHAPES = """
SELECT shape, min(text) AS example, sum(rows)::BIGINT AS rows
FROM texts GROUP BY shape ORDER BY rows DESC, shape
"""
# What the patterns above tell apart has shapes of its own, so that one text speaks for all of its shape: the letters of
# T and of zones, the halves of a day, and eight digits that begin with a year of these centuries.
_MAKE_TEXTS = """
CREATE OR REPLACE TEMP TABLE texts AS
SELECT text, count(*) AS rows,
       CASE WHEN regexp_matches(trim(text), '^[0-9]{{8}}([^0-9]|$)') AND NOT regexp_matches(trim(text), '^(19|20)')
            THEN '?' WHEN regexp_matches(trim(text), ':[0-9]{{2}} ?[AaPp][Mm]$') THEN '!' ELSE '' END
       || regexp_replace(regexp_replace(trim(text), '[0-9]', '9', 'g'), '[ABD-FH-LN-SV-Ya-z]', 'a', 'g') AS shape
FROM {values} WHERE trim(text) <> '' GROUP BY text
"""
_MAKE_STAMPS = """
CREATE OR REPLACE TEMP TABLE stamps (
    text VARCHAR PRIMARY KEY,
    local TIMESTAMP,         -- as written, without its zone
    instant TIMESTAMP,       -- in UTC, where a zone or an epoch tells it
    problem VARCHAR          -- the rule that the text breaks
)
"""
_PARSE = """
INSERT INTO stamps
WITH written AS (
    SELECT text, zone, trim(text)[: length(trim(text)) - length(zone)] AS bare
    FROM (SELECT text,
                 CASE WHEN regexp_matches(trim(text), '[T ][0-9]{{1,2}}(:|[0-9]{{2}})')
                      THEN regexp_extract(trim(text), '\\s*(Z|UTC|GMT|[+-]\\d{{2}}:?\\d{{2}}|[+-]\\d{{2}})$', 0)
                      ELSE '' END AS zone
          FROM texts WHERE list_contains($shapes, shape))
),
parsed AS (
    SELECT text, trim(zone) AS zone, coalesce({attempts}) AS local FROM written
),
-- No place is more than 14 hours from UTC: -50:00 was to be -05:00.
ahead AS (
    SELECT text, local, zone,
           CASE WHEN zone IN ('', 'Z', 'UTC', 'GMT') THEN 0
                WHEN regexp_full_match(zone, '[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?')
                THEN (CASE WHEN zone[1] = '-' THEN -1 ELSE 1 END)
                     * (zone[2:3]::INTEGER * 3600
                        + coalesce(try_cast(right(replace(zone, ':', '')[4:], 2) AS INTEGER), 0) * 60) END AS seconds
    FROM parsed
)
SELECT text, local, CASE WHEN zone <> '' THEN local - to_seconds(seconds) END,
       CASE WHEN local IS NULL OR seconds IS NULL THEN 'unreadable_date' END
FROM ahead
"""
_EPOCH = """
INSERT INTO stamps
SELECT text, moment, moment, CASE WHEN moment IS NULL THEN 'unreadable_date' END
FROM (SELECT text, make_timestamp((try_cast(text AS DOUBLE) / $unit * 1e6)::BIGINT) AS moment
      FROM texts WHERE list_contains($shapes, shape))
"""
_REST = """
INSERT INTO stamps SELECT text, NULL, NULL, $problem FROM texts WHERE list_contains($shapes, shape)
"""
# A date that is none counts twice: one stray row at a weekend is likelier than one with a thirteenth month.
_AGAINST = """
SELECT count(*) FILTER (t.day IS NULL) * 2 + count(*) FILTER (t.day IS NOT NULL AND e.session IS NULL)
FROM (SELECT try_strptime(split_part(trim(text), ' ', 1), '{format}') AS day
      FROM texts WHERE list_contains($shapes, shape)) AS t
LEFT JOIN exchange_days AS e ON t.day::DATE = e.session
"""
# By chance, the wrong order makes sessions of two dates in three; one date more or less tells nothing.
_MARGIN = 2


@dataclass(frozen=True)
class _Shape:
    """All stamps that look alike: their digits and letters aside, the same text."""

    shape: str
    rows: int
    family: str | None
    mark: str
    zoned: bool


def read_stamps(connection: duckdb.DuckDBPyConnection, values: str, file: str, order: str | None) -> None:
    """Make the table `stamps` from the column `text` of the table or view `values`; needs the table `exchange_days`.

    Args:
        order: of dates such as 03/04/2012, where the settings say it.

    Raises:
        CandlecastError: day and month cannot be told apart.
    """
    connection.execute(_MAKE_TEXTS.format(values=values))
    connection.execute(_MAKE_STAMPS)
    shapes = [_look(*row) for row in connection.execute(_SHAPES).fetchall()]
    known = [shape for shape in shapes if shape.family]
    _set_aside(connection, [shape for shape in shapes if not shape.family], "unreadable_date")
    if not known:
        return
    kinds: dict[tuple[str | None, str], int] = {}
    for shape in known:
        kinds[shape.family, shape.mark] = kinds.get((shape.family, shape.mark), 0) + shape.rows
    family, mark = max(kinds, key=lambda kind: kinds[kind])
    main = [shape for shape in known if (shape.family, shape.mark) == (family, mark)]
    _set_aside(connection, [shape for shape in known if shape not in main], "mixed_date_format")
    zoned = sum(shape.rows for shape in main if shape.zoned) * 2 > sum(shape.rows for shape in main)
    _set_aside(connection, [shape for shape in main if shape.zoned != zoned], "mixed_time_zone")
    wanted = [shape.shape for shape in main if shape.zoned == zoned]
    if family == "epoch":
        for digits, unit in _EPOCH_UNITS.items():
            own = [shape for shape in wanted if len(shape.split(".")[0]) in (digits, digits - 1)]
            if own:
                connection.execute(_EPOCH, {"shapes": own, "unit": unit})
        return
    if family == "dmy or mdy":
        family = _order(connection, wanted, mark, file, order)
    connection.execute(_PARSE.format(attempts=_attempts(str(family), mark)), {"shapes": wanted})


def _look(shape: str, example: str, rows: int) -> _Shape:
    for family, pattern in _FAMILIES.items():
        if found := pattern.match(example.strip()):
            zoned = family == "epoch" or bool(found.groupdict().get("zone"))
            return _Shape(shape, rows, family, found["mark"] or "", zoned)
    return _Shape(shape, rows, None, "", False)


def _set_aside(connection: duckdb.DuckDBPyConnection, shapes: Sequence[_Shape], problem: str) -> None:
    if shapes:
        connection.execute(_REST, {"shapes": [shape.shape for shape in shapes], "problem": problem})


def _order(connection: duckdb.DuckDBPyConnection, shapes: Sequence[str], mark: str, file: str, said: str | None) -> str:
    """Day first or month first: the order under which clearly fewer of the dates are none, or are no sessions."""
    if said in ("dmy", "mdy"):
        return said
    against = {}
    for order in ("dmy", "mdy"):
        sql = _AGAINST.format(format=_DATES[order].format(m=mark))
        against[order] = connection.execute(sql, {"shapes": list(shapes)}).fetchall()[0][0]
    if abs(against["dmy"] - against["mdy"]) < _MARGIN:
        raise CandlecastError(
            f"{file}: dates with two readings, day first or month first: "
            'say which with market.date_order = "dmy" or "mdy"'
        )
    return min(against, key=lambda order: against[order])


def _attempts(family: str, mark: str) -> str:
    day = _DATES[family].format(m=mark)
    clocks = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %H:%M:%S.%n", " %H%M%S", " %H%M", " %I:%M:%S%p", " %I:%M%p")
    bare = "regexp_replace(replace(bare, 'T', ' '), ' +', ' ', 'g')" if "%b" not in day else "bare"
    bare = f"regexp_replace({bare}, ' ?([AaPp][Mm])$', '\\1')"
    return ", ".join(f"try_strptime({bare}, '{day}{clock}')::TIMESTAMP" for clock in clocks)
