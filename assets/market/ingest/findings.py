"""What the values of a file show of its meaning: basis of prices, timestamps, frequency, units, several series.

A finding is an error where bars would be wrong without anyone noticing, and names the setting that decides. Not here:
single rows (contract.sql) and the recognition of columns (parsing).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb

from assets.market.ingest.payload_columns import PayloadColumns, as_text, cell_of
from assets.market.ingest.payload_rows import scale_of
from assets.market.parsing.column_names import plain_name
from assets.market.parsing.exchanges import LARGE_PRICES
from resources.calendar import TradingCalendar
from resources.sources.protocol import Reading
from resources.sql import load_sql

PACKAGE = "assets.market.ingest"
# Exchanges whose prices are six digits without a fraction.
WHOLE_PRICES = frozenset({"XKRX", "XIDX", "XTKS", "XBOG", "XSGO", "XBUD", "XSTC"})
# Amount ÷ (volume × price), and the scale that explains it.
_UNITS: tuple[tuple[float, Mapping[str, float]], ...] = (
    (100.0, {"volume": 100}),
    (1e-3, {"amount": 1000}),
    (0.1, {"volume": 100, "amount": 1000}),
    (1e-4, {"amount": 10000}),
    (1e-2, {"volume": 100, "amount": 10000}),
    (1e3, {"volume": 1000}),
)
# Prices that are all whole hundreds: the least of them, the unit, and the scale. Databento has billionths.
_WHOLE_UNITS = ((1e9, "billionths", "1e-9"), (0.0, "ten-thousandths", "1e-4"))
# Part of the names of volume in many languages; names of averages and of orders are not.
_VOLUME = re.compile(
    r"^(?!.*(?:avg|average|ma\d|vwap)).*(?:vol|qty|qnty|quantity|shares|量|거래량|出来高|lots)", re.IGNORECASE
)
_REPEATED = """
SELECT count(*), count(*) FILTER (r.versions > 1), any_value(r.symbol) FILTER (r.versions > 1)
FROM (SELECT symbol, coalesce(instant, local) AS ts, count(DISTINCT hash(open, high, low, close, volume)) AS versions
      FROM received WHERE payload = $number AND NOT left_out AND coalesce(instant, local) IS NOT NULL
      GROUP BY symbol, ts) AS r
"""
# A column of short texts without decimals that repeats, and with which no row of one time is repeated any more.
_TELLS_APART = """
WITH rows AS (
    SELECT r.symbol, coalesce(r.instant, r.local) AS ts, {cell} AS value
    FROM payload AS p JOIN received AS r ON r.row = p."#row" AND r.payload = $number AND NOT r.left_out
)
SELECT bool_and(coalesce(regexp_full_match(value, '[A-Za-z0-9^][A-Za-z0-9.=_^/& -]{{0,31}}'), false)
                AND NOT regexp_full_match(value, '-?[0-9]*[.][0-9]+'))
       AND ($declared OR count(*) >= 1.5 * count(DISTINCT value)) AND count(*) = count(DISTINCT (symbol, ts, value)),
       mode(value)
FROM rows
"""


@dataclass(frozen=True)
class Finding:
    """What the values of one payload show.

    Attributes:
        payload: its number in the batch.
        message: names the file and the setting.
        settings: the keys of the section [market] that decide, such as {"stamp": "end"}; empty: none does.
    """

    payload: int
    severity: Literal["error", "warning"]
    message: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def repeated_rows(connection: duckdb.DuckDBPyConnection, number: int, columns: PayloadColumns) -> list[Finding]:
    """Several rows of a symbol at one time that an unused column, or the series, tells apart."""
    keys, repeated, symbol = connection.execute(_REPEATED, {"number": number}).fetchall()[0]
    if not repeated:
        return []
    candidates = [columns.header["series"]] if "series" in columns.header else []
    # A few repeated rows are errors of the file; many are another series, or another symbol.
    candidates += list(columns.ignored) if repeated > 0.2 * keys else []
    for name in candidates:
        sql = _TELLS_APART.format(cell=as_text(cell_of(name)))
        parameters = {"number": number, "declared": name == columns.header.get("series")}
        apart, usual = connection.execute(sql, parameters).fetchall()[0]
        if apart:
            return [_repeated(number, columns, name, usual, repeated, symbol)]
    return []


def _repeated(number: int, columns: PayloadColumns, name: str, usual: str, repeated: int, symbol: str) -> Finding:
    settings: dict[str, Any]
    if "symbol" not in columns.header:
        settings, lines = {"columns": {"symbol": name}}, f'[market.columns] symbol = "{name}"'
    elif columns.header.get("series") == name:
        settings, lines = {"series": [usual]}, f'[market] series = ["{usual}"]'
    else:
        settings = {"columns": {"series": name}, "series": [usual]}
        lines = f'[market.columns] series = "{name}" and [market] series = ["{usual}"]'
    message = (
        f"{columns.file}: {repeated} timestamps of {symbol} have several rows, and the column {name!r} tells them "
        f"apart: set {lines}"
    )
    return Finding(number, "error", message, settings)


def basis_findings(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[PayloadColumns], reading: Reading
) -> list[Finding]:
    """Decide for what the prices of files are adjusted, and write it to the table `payloads`.

    A factor beside prices as quoted becomes an adjusted close, from which actions are derived. A source that states
    its basis is believed.
    """
    if reading.basis != "raw":
        return []
    evidence = {
        (number, kind): (shown, hidden, day, ratio)
        for number, kind, shown, hidden, day, ratio in connection.execute(load_sql(PACKAGE, "basis.sql")).fetchall()
    }
    findings = []
    for number, found in enumerate(columns):
        for kind in ("factor", "split"):
            shown, hidden, day, ratio = evidence.get((number, kind), (0, 0, "", 1.0))
            if kind not in found.header:
                continue
            name = found.header[kind]
            if reading.adjusted is None and kind == "split" and hidden > shown:
                findings.append(_adjusted_split(number, found.file, name, day, ratio))
            if reading.adjusted in ("splits", "splits and dividends") and shown > hidden:
                findings.append(_raw_prices(number, found.file, name, day, ratio, reading.adjusted))
            if kind == "factor":
                adjusted = reading.adjusted or ("splits and dividends" if hidden > shown else None)
                if adjusted is None and not shown and plain_name(name) == "factor" and _varies(connection, number):
                    findings.append(_unclear_factor(number, found.file, name))
                _use_factor(connection, number, adjusted == "splits and dividends")
        _set_basis(connection, number, reading, "factor" in found.header)
    return findings


def _adjusted_split(number: int, file: str, name: str, day: str, ratio: float) -> Finding:
    message = (
        f"{file}: the column {name!r} has a split of {ratio:g} on {day}, and the price does not move by it, so the "
        'prices are adjusted already: set market.adjusted = "splits", or "splits and dividends" if dividends are taken '
        'out as well (yfinance with auto_adjust); "none" if they are prices as quoted all the same'
    )
    return Finding(number, "error", message, {"adjusted": "splits"})


def _raw_prices(number: int, file: str, name: str, day: str, ratio: float, adjusted: str) -> Finding:
    message = (
        f'{file}: market.adjusted = "{adjusted}", and the price moves on {day} by the ratio of {ratio:g} of the column '
        f'{name!r}, so prices are as quoted: set market.adjusted = "none"'
    )
    return Finding(number, "error", message, {"adjusted": "none"})


def _unclear_factor(number: int, file: str, name: str) -> Finding:
    message = (
        f"{file}: the column {name!r} changes, and the prices do not show whether they are multiplied by it: set "
        'market.adjusted = "splits and dividends" if they are (Qlib), "none" if they are as quoted, or '
        '[market.columns] factor = "" to leave it out'
    )
    return Finding(number, "error", message, {"adjusted": "none"})


def _varies(connection: duckdb.DuckDBPyConnection, number: int) -> bool:
    sql = "SELECT coalesce(bool_or(factor <> 1), false) FROM received WHERE payload = ?"
    return bool(connection.execute(sql, [number]).fetchall()[0][0])


def _use_factor(connection: duckdb.DuckDBPyConnection, number: int, multiplied: bool) -> None:
    if multiplied:
        connection.execute("UPDATE payloads SET basis = 'factor' WHERE number = ?", [number])
        return
    sql = "UPDATE received SET adj_close = coalesce(adj_close, close * factor), factor = NULL WHERE payload = ?"
    connection.execute(sql, [number])
    connection.execute("UPDATE payloads SET derives = true WHERE number = ?", [number])


def _set_basis(connection: duckdb.DuckDBPyConnection, number: int, reading: Reading, has_factor: bool) -> None:
    if reading.adjusted == "splits":
        connection.execute("UPDATE payloads SET basis = 'split-adjusted' WHERE number = ?", [number])
    elif reading.adjusted == "splits and dividends" and not has_factor:
        # The prices cannot be traced back without a factor, and must not be adjusted a second time.
        sql = "UPDATE received SET dividend = NULL, split = NULL, adj_close = NULL WHERE payload = ?"
        connection.execute(sql, [number])
        connection.execute("UPDATE payloads SET derives = false WHERE number = ?", [number])


def unit_findings(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[PayloadColumns], reading: Reading
) -> list[Finding]:
    """Magnitudes that do not fit: an amount that is not price × volume, prices in ten-thousandths; unread volumes."""
    findings = [finding for number, found in enumerate(columns) if (finding := _unread_volume(number, found, reading))]
    magnitudes = connection.execute(load_sql(PACKAGE, "magnitude.sql"), {"large": LARGE_PRICES}).fetchall()
    for number, ratio, whole, price in magnitudes:
        file = columns[number].file
        if whole and "price" not in reading.scale and reading.calendar not in WHOLE_PRICES:
            findings.append(_whole_prices(number, file, price))
        if ratio is not None and not 0.5 <= ratio <= 2:
            fitting = next((scale for size, scale in _UNITS if size / 2 <= ratio <= size * 2), {})
            units = {name: factor * scale_of(name, columns[number], reading) for name, factor in fitting.items()}
            scale = ", ".join(f"{name} = {factor:g}" for name, factor in units.items())
            message = (
                f"{file}: amount is {ratio:.3g} times price × volume: check the units, market.scale"
                + (f" = {{ {scale} }}" if scale else "")
                + ', or leave a column out with [market.columns] amount = ""'
            )
            findings.append(Finding(number, "warning", message, {"scale": units} if units else {}))
    return findings


def _whole_prices(number: int, file: str, price: float) -> Finding:
    unit, scale = next((unit, scale) for least, unit, scale in _WHOLE_UNITS if price >= least)
    message = (
        f"{file}: all prices are whole hundreds, about {price:g}, as prices in {unit} are: set "
        f"market.scale.price = {scale}, or 1 if the prices are right"
    )
    return Finding(number, "error", message, {"scale": {"price": float(scale)}})


def _unread_volume(number: int, columns: PayloadColumns, reading: Reading) -> Finding | None:
    """A column that looks like the volume by its name, where none is read as volume."""
    if "volume" in columns.header or "volume" in reading.columns:
        return None
    name = next((name for name in columns.ignored if _VOLUME.search(name)), None)
    if name is None:
        return None
    message = (
        f"{columns.file}: no column is read as volume, and {name!r} may be it: set [market.columns] volume = "
        f'{json.dumps(name, ensure_ascii=False)}, or "" if it is not'
    )
    return Finding(number, "warning", message, {"columns": {"volume": name}})


def time_findings(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[PayloadColumns],
    reading: Reading,
    calendar: TradingCalendar,
) -> list[Finding]:
    """Timestamps that end their bars, and bars of a coarser frequency. Needs the tables of find_finer."""
    zone = reading.timezone or calendar.timezone
    findings = []
    if reading.stamp is None:
        finer = {number for (number,) in connection.execute("SELECT payload FROM periods").fetchall()}
        for number, starts, ends, example in connection.execute(
            load_sql(PACKAGE, "stamp_ends.sql"), {"zone": zone}
        ).fetchall():
            if ends >= 2 * starts and (number in finer or not calendar.is_daily):
                message = (
                    f"{columns[number].file}: the timestamps include the end of a session, as {example}, and lack its "
                    'start, so they end their bars: set market.stamp = "end" ("start" if they are starts all the same; '
                    "check market.timezone if they are of another zone)"
                )
                findings.append(Finding(number, "error", message, {"stamp": "end"}))
    findings += _spacing(connection, columns, reading, calendar, zone)
    return findings


def _spacing(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[PayloadColumns],
    reading: Reading,
    calendar: TradingCalendar,
    zone: str,
) -> list[Finding]:
    values = {
        "daily": calendar.is_daily,
        "zone": zone,
        "format": "%Y-%m-%d" if calendar.is_daily else "%Y-%m-%d %H:%M",
        # Weekly bars are four sessions apart in a week with a holiday.
        "least": 3 if calendar.is_daily else 10,
        "closest": 4 if calendar.is_daily else 2,
    }
    findings = []
    for number, symbol, gap, first, second in connection.execute(load_sql(PACKAGE, "spacing.sql"), values).fetchall():
        remedy = (
            "give daily bars; weekly and monthly ones are not read"
            if calendar.is_daily
            else 'set market.frequency to that of the file, or "1d" and market.resample = true for bars on clock hours'
        )
        rows = f"the rows of {symbol}" if symbol else "its rows"
        message = (
            f"{columns[number].file}: {rows} are about {gap} bars of {reading.frequency} apart throughout ({first}, "
            f"{second}), so they are bars of a coarser frequency: {remedy}"
        )
        findings.append(Finding(number, "error", message))
    return findings
