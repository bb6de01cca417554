"""A batch of payloads against the contract of bars: kept, folded and rejected rows, as set-based SQL.

Belongs here: from the lake's Parquet to three sets of rows in a scratch database. Not here: the rules (contract.sql),
their words (rules), what the warehouse already holds (ingest).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet

from assets.market.ingest.lake import Batch, Landed
from assets.market.parsing.columns import NUMBERS, PRICES, read_header
from assets.market.parsing.numbers import number_template
from assets.market.parsing.timestamps import read_stamps
from resources.calendar import DAILY, TradingCalendar
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.publish import scratch_folder
from resources.sources.protocol import ROW, UNPARSED, Reading
from resources.sql import load_sql
from resources.warehouse import interruptible

MEMORY_LIMIT = "1GB"
# Whole shares for one, the usual fractions, and reverse splits.
SPLIT_RATIOS = sorted(
    {float(n) for n in range(2, 51)} | {3 / 2, 4 / 3, 5 / 4, 5 / 2, 5 / 3} | {1 / n for n in range(2, 51)}
)
CONTRACT = load_sql("assets.market.ingest", "contract.sql")
# The types of a column that is read as names, and of one that is read as numbers; text is read too.
_NAMES = re.compile(r'U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|VARCHAR|BLOB|"NULL"')
_NUMERIC = re.compile(r'U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)|VARCHAR|"NULL"')
AS_RECEIVED = """
CREATE TEMP TABLE kept AS
SELECT j.payload, j.row, j.symbol, j.ts, j.session, j.open, j.high, j.low, j.close, j.volume, j.amount,
       j.dividend, j.split, CASE WHEN j.dividend IS NOT NULL OR j.split IS NOT NULL THEN p.actions END AS actions
FROM judged AS j
JOIN payloads AS p ON p.number = j.payload
LEFT JOIN sorted_out AS s ON s.payload = j.payload AND s.row = j.row
WHERE j.rule IS NULL AND s.fate IS NULL
"""
DERIVE = load_sql("assets.market.ingest", "derive.sql")
FOLD = load_sql("assets.market.ingest", "fold.sql")

_MAKE = """
CREATE TEMP TABLE received (
    payload INTEGER, row BIGINT, unparsed BOOLEAN, symbol VARCHAR, local TIMESTAMP, instant TIMESTAMP, problem VARCHAR,
    open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE, volume DOUBLE, amount DOUBLE,
    dividend DOUBLE, split DOUBLE, adj_close DOUBLE, factor DOUBLE, unreadable VARCHAR
);
CREATE TEMP TABLE payloads (number INTEGER, fetched_at TIMESTAMP, basis VARCHAR, actions VARCHAR);
CREATE TEMP TABLE rejected (
    symbol VARCHAR, date VARCHAR, open VARCHAR, high VARCHAR, low VARCHAR, close VARCHAR, volume VARCHAR,
    amount VARCHAR, session DATE, file VARCHAR, row_number BIGINT, received VARCHAR, rule VARCHAR, payload INTEGER,
    name VARCHAR, ts TIMESTAMP
);
"""
_PAYLOAD = """
CREATE OR REPLACE TEMP VIEW payload AS
SELECT *, {row} AS "#row" FROM read_parquet({file}, file_row_number = true, hive_partitioning = false)
"""
_RECEIVE = """
INSERT INTO received
SELECT {number}, p."#row", {unparsed}, {symbol}, {stamp}, {numbers}, {unreadable}
FROM payload AS p {join}
"""
_REJECT = """
INSERT INTO rejected
SELECT {texts}, j.session, {file}, p."#row",
       {as_received},
       j.rule, j.payload, j.symbol, j.ts
FROM payload AS p
JOIN (
    SELECT payload, row, session, rule, symbol, ts FROM judged WHERE payload = $number AND rule IS NOT NULL
    UNION ALL
    SELECT s.payload, s.row, d.session, s.fate, d.symbol, d.ts
    FROM sorted_out AS s JOIN judged AS d USING (payload, row)
    WHERE s.payload = $number AND s.fate = 'conflicting_duplicate'
) AS j ON j.row = p."#row"
"""
# Runs of days that hold rows: one odd date beside them must not ask for the bars of all the years between.
_SPANS = """
WITH days AS (
    SELECT DISTINCT greatest(least(ts, TIMESTAMP '2200-01-01'), TIMESTAMP '1800-01-01')::DATE AS day
    FROM (SELECT coalesce(instant, local) AS ts FROM received) WHERE ts IS NOT NULL
),
runs AS (SELECT day, sum((day - before > 30)::INTEGER) OVER (ORDER BY day) AS run
         FROM (SELECT day, lag(day) OVER (ORDER BY day) AS before FROM days))
SELECT min(day), max(day) FROM runs GROUP BY run ORDER BY 1
"""
_COUNTS = """
WITH fates AS (
    SELECT payload, count(*) FILTER (fate = 'folded') AS folded,
           count(*) FILTER (fate = 'conflicting_duplicate') AS conflicting
    FROM sorted_out GROUP BY payload
)
SELECT p.number, count(j.row) AS received, coalesce(any_value(f.folded), 0) AS folded,
       count(j.row) FILTER (j.rule IS NOT NULL) + coalesce(any_value(f.conflicting), 0) AS rejected
FROM payloads AS p LEFT JOIN judged AS j ON j.payload = p.number LEFT JOIN fates AS f ON f.payload = p.number
GROUP BY p.number ORDER BY p.number
"""


@dataclass(frozen=True)
class Counted:
    """What the contract made of one payload: received = kept + folded + rejected."""

    payload: Landed
    received: int
    folded: int
    rejected: int


@dataclass(frozen=True)
class Staged:
    """A judged batch, as files for the warehouse to read.

    Attributes:
        kept: Parquet: payload, row, symbol, ts, session, prices as quoted, volume, amount, dividend, split, actions.
        rejected: Parquet: the columns of rejected_bars that the batch knows.
    """

    batch: Batch
    kept: Path
    rejected: Path
    counts: tuple[Counted, ...]


@contextmanager
def staged(
    batch: Batch, payload_files: Sequence[Path], calendar: TradingCalendar, scratch: Path, progress: Progress = silent
) -> Iterator[Staged]:
    """Judge a batch. The staged files live as long as the block.

    Args:
        payload_files: one a payload of the batch, in its order.

    Raises:
        CandlecastError: a payload as a whole cannot be read; the message names its file and what to do.
    """
    sources = list(zip(batch.payloads, payload_files, strict=True))
    with scratch_folder(scratch) as folder, _database(folder) as connection:
        judge(connection, sources, batch.reading, calendar, progress)
        kept, rejected = folder / "kept.parquet", folder / "rejected.parquet"
        for table, file in (("kept", kept), ("rejected", rejected)):
            connection.execute(f"COPY {table} TO {_literal(str(file))} (FORMAT parquet, COMPRESSION snappy)")
        counts = tuple(
            Counted(sources[number][0], received, folded, turned_away)
            for number, received, folded, turned_away in connection.execute(_COUNTS).fetchall()
        )
        connection.close()
        yield Staged(batch, kept, rejected, counts)


def judge(
    connection: duckdb.DuckDBPyConnection,
    payloads: Sequence[tuple[Landed, Path]],
    reading: Reading,
    calendar: TradingCalendar,
    progress: Progress = silent,
) -> None:
    """Fill the temporary tables `judged`, `sorted_out`, `kept` and `rejected` from the payloads' files."""
    connection.execute(_MAKE)
    exchange_days = pd.DataFrame({"session": calendar.all_sessions()})
    make_table(connection, "exchange_days", exchange_days, "session::DATE AS session")
    received: list[dict[str, str]] = []
    derives = reading.basis != "raw"
    for number, (payload, file) in enumerate(payloads):
        progress(number, len(payloads), payload.request.file)
        received.append(_receive(connection, number, payload, file, reading))
        derives |= "adj_close" in received[-1] and not {"dividend", "split"} <= received[-1].keys()
    make_table(
        connection,
        "grid",
        _grid(connection, calendar),
        "ts::TIMESTAMP AS ts, session::DATE AS session, closes_at::TIMESTAMP AS closes_at, half_day",
    )
    values = {
        "daily": calendar.is_daily,
        "zone": reading.timezone or calendar.timezone,
        "exchange": calendar.timezone,
        "calendar_starts": exchange_days.session.iloc[0].to_pydatetime(),
    }
    run_script(connection, CONTRACT, values)
    make_split_ratios(connection)
    run_script(connection, DERIVE if derives else AS_RECEIVED, {})
    run_script(connection, FOLD, {})
    for number, (payload, file) in enumerate(payloads):
        _reject(connection, number, payload, file, received[number])
    progress(len(payloads), len(payloads))


def _grid(connection: duckdb.DuckDBPyConnection, calendar: TradingCalendar) -> pd.DataFrame:
    """Every bar that the calendar expects around the received rows."""
    if calendar.is_daily:
        return calendar.grid(None, None)
    spans = connection.execute(_SPANS).fetchall() or [(None, None)]
    parts = [calendar.grid(*span) for span in spans]
    return pd.concat([part for part in parts if len(part)] or parts[:1]).drop_duplicates("ts")


def _receive(
    connection: duckdb.DuckDBPyConnection, number: int, payload: Landed, file: Path, reading: Reading
) -> dict[str, str]:
    """Add a payload's rows to `received`; the SQL of its symbol, stamp and numbers as text, by our names."""
    types = _open(connection, file)
    request = payload.request
    columns = read_header(list(types), reading.columns, request.file, request.symbol)
    of = {ours: _cell(theirs) for ours, theirs in columns.names.items()}
    texts = {ours: f"trim({name}::VARCHAR)" for ours, name in of.items()}
    kind = types[columns.names["date"]]
    if columns.clock and reading.frequency != DAILY and _is_midnights(connection, of["date"], kind):
        texts["date"], kind = f"{of['date']}::DATE::VARCHAR", "VARCHAR"
    if columns.clock:
        texts["date"] += f" || ' ' || {_clock(connection, _cell(columns.clock))}"
    if "symbol" not in of:
        texts["symbol"] = _literal(str(request.symbol))
    else:
        # 700.0 and true are what tools make of the symbols 0700 and TRUE.
        _refuse_type(request.file, columns.names["symbol"], "symbol", types[columns.names["symbol"]], _NAMES, "a name")
    read = [name for name in NUMBERS if name in of and (name != "factor" or reading.basis == "factor")]
    for name in read:
        _refuse_type(request.file, columns.names[name], name, types[columns.names[name]], _NUMERIC, "a number")
    is_text = {ours: types[theirs] == "VARCHAR" for ours, theirs in columns.names.items()}
    written = {name: of[name].removeprefix("p.") for name in read if is_text[name]}
    prices = [cell for name, cell in written.items() if name in PRICES]
    others = [cell for name, cell in written.items() if name not in PRICES]
    template = number_template(connection, prices, others, request.file)
    numbers: dict[str, str] = {
        name: template.replace("{c}", of[name]) if is_text[name] else f"{of[name]}::DOUBLE" for name in read
    }
    if reading.lot != 1 and "volume" in numbers:
        numbers["volume"] = f"{numbers['volume']} * {reading.lot}"
    unreadable = " ".join(
        f"WHEN {texts[name]} <> '' AND {numbers[name]} IS NULL THEN '{name}'" for name in numbers if is_text[name]
    )
    if kind != "DATE" and not kind.startswith("TIMESTAMP"):
        _refuse_type(request.file, columns.names["date"], "date", kind, _NUMERIC, "a date")
    zone = _zone(file, columns.names["date"]) if _is_zoned(kind) else ""
    stamp, join = _stamp(connection, texts["date"], of["date"], kind, zone, reading, request.file)
    connection.execute(
        _RECEIVE.format(
            number=number,
            unparsed=f'p."{UNPARSED}" IS NOT NULL' if UNPARSED in types else "false",
            symbol=texts["symbol"],
            stamp=stamp,
            numbers=", ".join(numbers.get(name, "NULL") for name in NUMBERS),
            unreadable=f"CASE {unreadable} END" if unreadable else "NULL",
            join=join,
        )
    )
    connection.execute(
        "INSERT INTO payloads VALUES (?, ?, ?, ?)", [number, payload.fetched_at, reading.basis, reading.actions]
    )
    return texts


def _open(connection: duckdb.DuckDBPyConnection, file: Path) -> dict[str, str]:
    """Make the view `payload` of a file; its columns' types."""
    rows = f"SELECT * FROM (DESCRIBE FROM read_parquet({_literal(str(file))}, hive_partitioning = false))"
    types = {name: kind for name, kind, *_ in connection.execute(rows).fetchall()}
    row = f'"{ROW}"' if ROW in types else "file_row_number + 1"
    connection.execute(_PAYLOAD.format(row=row, file=_literal(str(file))))
    return types


def _stamp(
    connection: duckdb.DuckDBPyConnection, text: str, name: str, kind: str, zone: str, reading: Reading, file: str
) -> tuple[str, str]:
    """The SQL of a row's local stamp, instant and problem, and the join that it needs."""
    if _is_zoned(kind):
        # Nanoseconds with a zone, as pandas writes them, have no casts but this one.
        instant = f"{name}::TIMESTAMPTZ"
        return f"timezone({_literal(zone)}, {instant}), timezone('UTC', {instant}), NULL", ""
    if kind == "DATE" or kind.startswith("TIMESTAMP"):
        return f"{name}::TIMESTAMP, NULL, NULL", ""
    is_whole = "INT" in kind or kind == "VARCHAR"
    whole = f"CASE WHEN {name} <> trunc({name}) THEN {name}::VARCHAR ELSE try_cast({name} AS BIGINT)::VARCHAR END"
    written = text if is_whole else whole
    connection.execute(f"CREATE OR REPLACE TEMP VIEW written AS SELECT {written} AS text FROM payload AS p")
    read_stamps(connection, "written", file, reading.date_order)
    return "t.local, t.instant, t.problem", f"LEFT JOIN stamps AS t ON t.text = {written}"


def _is_zoned(kind: str) -> bool:
    """Whether a typed column of stamps holds instants."""
    return "TIME ZONE" in kind or kind.startswith("TIMESTAMPTZ")


def _zone(file: Path, column: str) -> str:
    """The zone in which a column's stamps were written: DuckDB reads their instants alone, and a daily bar's midnight
    is its day there."""
    schema = pyarrow.parquet.read_schema(file)
    zone = str(schema.field(column).type.tz or "UTC") if column in schema.names else "UTC"
    return f"UTC{zone}" if zone[0] in "+-" else zone


def _refuse_type(file: str, column: str, ours: str, kind: str, allowed: re.Pattern[str], wanted: str) -> None:
    if not allowed.fullmatch(kind):
        raise CandlecastError(
            f"{file}: column {column!r}, read as {ours}, has the type {kind}, which is not {wanted}: write it as "
            f'{wanted} or as text, or name another column in [market.columns] {ours} = "…"'
        )


def _clock(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """The SQL of a column of clocks as text. 93000 is 09:30:00 and 930 is 09:30 where tools took the zero away."""
    text = f"trim({name}::VARCHAR)"
    longest = f"SELECT max(length({text})) FROM payload AS p WHERE regexp_full_match({text}, '[0-9]+')"
    digits = 4 if connection.execute(longest).fetchall()[0][0] in (3, 4) else 6
    return f"CASE WHEN regexp_full_match({text}, '[0-9]+') THEN lpad({text}, {digits}, '0') ELSE {text} END"


def _is_midnights(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> bool:
    """Whether a typed column of dates says no time of day."""
    if kind == "DATE" or not kind.startswith("TIMESTAMP") or _is_zoned(kind):
        return kind == "DATE"
    all_of_them = f"SELECT bool_and({name}::TIME = TIME '00:00') FROM payload AS p"
    return bool(connection.execute(all_of_them).fetchall()[0][0])


def _reject(
    connection: duckdb.DuckDBPyConnection, number: int, payload: Landed, file: Path, texts: dict[str, str]
) -> None:
    """Add a payload's rejected rows, as they were received."""
    types = _open(connection, file)
    cells = [name for name in types if name not in (ROW, UNPARSED)]
    pairs = ", ".join(f"{_literal(name)}: {_cell(name)}::VARCHAR" for name in cells)
    as_received = f"to_json(MAP {{{pairs}}})::VARCHAR"
    if UNPARSED in types:
        as_received = f'coalesce(p."{UNPARSED}", {as_received})'
    names = ("symbol", "date", "open", "high", "low", "close", "volume", "amount")
    shown = ", ".join(texts.get(name, "NULL") for name in names)
    connection.execute(
        _REJECT.format(texts=shown, file=_literal(payload.request.file), as_received=as_received), {"number": number}
    )


def make_table(connection: duckdb.DuckDBPyConnection, table: str, frame: pd.DataFrame, columns: str) -> None:
    connection.register("frame", frame)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {columns} FROM frame")
    connection.unregister("frame")


def make_split_ratios(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table of the ratios that splits have."""
    make_table(connection, "split_ratios", pd.DataFrame({"ratio": SPLIT_RATIOS}), "ratio")


def run_script(connection: duckdb.DuckDBPyConnection, script: str, values: dict[str, object]) -> None:
    """Run statements one by one, each with those of the named values that it uses."""
    for statement in connection.extract_statements(script):
        connection.execute(statement, {name: values[name] for name in statement.named_parameters})


@contextmanager
def _database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    spill = str(folder / "spill")
    with duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": spill}) as connection, interruptible():
        yield connection


def _cell(column: str) -> str:
    return 'p."' + column.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
