"""Throughput and memory of the market stage: `python -m benchmarks.market [--data FILE]`.

Contract and store, the whole backfill in one Dagster run, ten times the rows, one new session, and the same work by
pandas and Qlib's dump. Each measurement is a process of its own, so its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "us_daily.parquet"
TIMES = 10
SETTINGS = """
[profiles.sample.market]
source = "files"
path = "{path}"
calendar = "XNYS"
start = {first}
end = {last}
[profiles.sample.windows]
train = [2000-01-03, 2010-12-31]
validation = [2011-01-01, 2011-12-31]
test = [2012-01-01, 2013-03-01]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=lambda text: Path(text).absolute(), default=DATA)
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.data.is_file():
        sys.exit(f"{given.data} does not exist: name a Parquet file of daily bars with --data")
    if given.part:
        print(json.dumps({**PARTS[given.part](given.data, given.work), "peak_mib": _peak_mib()}))
        return
    with tempfile.TemporaryDirectory() as work:
        results = {part: _measured(part, given.data, Path(work)) for part in PARTS}
    print(_table(results))
    _save(results)


def contract_and_store(data: Path, work: Path) -> dict[str, Any]:
    """From a payload in the lake to committed rows; the calendar is computed before."""
    lake, warehouse, source, wanted = _environment(data, work / "contract")
    from assets.market.ingest.ingest import ingest
    from resources.calendar import TradingCalendar

    lake.land(source, wanted)
    TradingCalendar("XNYS").grid(None, None)
    took, done = _timed(lambda: ingest(lake, warehouse))
    return {**took, "rows": done.received, "rows_a_second": round(done.received / took["seconds"])}


def ten_times(data: Path, work: Path) -> dict[str, Any]:
    """The same on ten copies with other symbols."""
    import duckdb

    large = work / "large.parquet"
    duckdb.execute(
        f"COPY (SELECT d.* REPLACE (symbol || '.' || copy AS symbol) "
        f"FROM read_parquet('{data}') AS d, range({TIMES}) AS r(copy)) TO '{large}' (FORMAT parquet)"
    )
    return contract_and_store(large, work / "ten")


def one_session(data: Path, work: Path) -> dict[str, Any]:
    """A file with the newest session, after a file with all sessions before it."""
    import duckdb

    from assets.market.actions import refresh_actions
    from assets.market.ingest.digests import session_digests
    from assets.market.ingest.ingest import ingest

    folder = work / "daily"
    folder.mkdir()
    newest = duckdb.execute(f"SELECT max(date) FROM read_parquet('{data}')").fetchall()[0][0]
    for name, condition in (("before", "<"), ("newest", "=")):
        duckdb.execute(
            f"COPY (FROM read_parquet('{data}') WHERE date {condition} DATE '{newest}') "
            f"TO '{work / name}.parquet' (FORMAT parquet)"
        )
    (work / "before.parquet").rename(folder / "before.parquet")
    lake, warehouse, source, wanted = _environment(folder / "*.parquet", work / "one")
    lake.land(source, wanted)
    ingest(lake, warehouse)
    refresh_actions(warehouse)
    (work / "newest.parquet").rename(folder / "newest.parquet")

    def day() -> int:
        lake.land(source, wanted)
        done = ingest(lake, warehouse)
        refresh_actions(warehouse)
        session_digests(warehouse, "1d", newest, newest)
        return done.kept

    took, kept = _timed(day)
    return {**took, "rows": kept}


def whole_backfill(data: Path, work: Path) -> dict[str, Any]:
    """Read, lake, contract, actions, warehouse: one Dagster run over every session."""
    import duckdb

    first, last, rows = duckdb.execute(f"SELECT min(date), max(date), count(*) FROM read_parquet('{data}')").fetchall()[
        0
    ]
    settings_file = work / "candlecast.toml"
    settings_file.write_text(SETTINGS.format(path=data, first=first, last=last))
    os.environ["CANDLECAST_HOME"] = str(work / "backfill")
    from orchestration.cli.headless import HeadlessRunner
    from orchestration.cli.run_progress import RunMonitor
    from orchestration.cli.session_ranges import SessionRange
    from resources.profiles import load_settings

    runner = HeadlessRunner(load_settings(settings_file), RunMonitor())
    sessions = runner.candlecast.calendar.sessions(first, last)
    every = SessionRange(sessions[0].date(), sessions[-1].date())
    with runner.locked():
        took, _ = _timed(lambda: runner.run("group:market", every, "ingest"))
    return {**took, "rows": rows, "sessions": len(sessions)}


def pandas_and_qlib_dump(data: Path, work: Path) -> dict[str, Any]:
    """The same rows by pandas, as Qlib's dump_bin script does: read, check, adjust, one CSV per symbol, binary files.

    Less than the contract does: no calendar, no reasons for rejected rows, no versions, no transactions.
    """
    import numpy as np
    import pandas as pd

    def work_through() -> int:
        frame = pd.read_parquet(data).sort_values(["symbol", "date"])
        prices = frame[["open", "high", "low", "close"]]
        good = pd.Series(np.isfinite(prices).all(axis=1)) & (prices > 0).all(axis=1)
        good &= (frame["low"] <= prices.min(axis=1)) & (frame["high"] >= prices.max(axis=1))
        frame = frame[good & ~frame.duplicated(["symbol", "date"], keep=False)].copy()
        frame["factor"] = frame["adj_close"] / frame["close"]
        for field in ("open", "high", "low", "close"):
            frame[field] *= frame["factor"]
        frame["volume"] /= frame["factor"]
        frame["change"] = frame.groupby("symbol")["close"].pct_change()
        calendar = pd.DatetimeIndex(sorted(pd.to_datetime(frame["date"]).unique()))
        listed = work / "csv"
        listed.mkdir()
        for symbol, own in frame.groupby("symbol"):
            own.to_csv(listed / f"{symbol}.csv", index=False)
        for file in sorted(listed.glob("*.csv")):
            own = pd.read_csv(file, parse_dates=["date"]).set_index("date")
            symbol = file.stem
            folder = work / "dump" / "features" / str(symbol).lower()
            folder.mkdir(parents=True)
            begin, end = calendar.get_indexer(own.index[[0, -1]])
            dense = own.reindex(calendar[begin : end + 1])
            for field in ("open", "high", "low", "close", "volume", "factor", "change"):
                np.hstack([begin, dense[field]]).astype("<f").tofile(folder / f"{field}.day.bin")
        return len(frame)

    took, rows = _timed(work_through)
    return {**took, "rows": rows}


PARTS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "contract_and_store": contract_and_store,
    "whole_backfill": whole_backfill,
    "ten_times": ten_times,
    "one_session": one_session,
    "pandas_and_qlib_dump": pandas_and_qlib_dump,
}


def _environment(data: Path, home: Path) -> tuple[Any, Any, Any, Any]:
    from assets.market.ingest.lake import Lake
    from resources.layout import Home
    from resources.sources.files import FilesSource
    from resources.sources.protocol import Reading, Wanted
    from resources.warehouse import Warehouse

    place = Home(home)
    source = FilesSource(data.name, data.parent, Reading("XNYS", "1d"))
    return Lake(place), Warehouse(place.warehouse), source, Wanted(None, date(1999, 1, 1), date(2030, 1, 1), "1d")


def _measured(part: str, data: Path, work: Path) -> dict[str, Any]:
    folder = work / part
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.market", "--part", part, "--data", str(data), "--work", str(folder)]
    print(f"{part} …", file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{part} failed:\n{done.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _timed(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Wall and CPU seconds. On a busy machine compare the CPU seconds."""
    began, began_cpu = time.perf_counter(), time.process_time()
    result = work()
    return {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}, result


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _table(results: dict[str, dict[str, Any]]) -> str:
    store, ten = results["contract_and_store"], results["ten_times"]
    backfill, day, pandas = results["whole_backfill"], results["one_session"], results["pandas_and_qlib_dump"]
    rows = [
        ("contract + store", f"{store['rows_a_second']:,} rows/s", "≥ 300,000 rows/s", store),
        (
            "whole backfill, one Dagster run",
            f"{backfill['seconds']:.1f} s, {backfill['sessions']:,} sessions",
            "≤ 60 s",
            backfill,
        ),
        ("ten times the rows", f"{ten['seconds'] / store['seconds']:.1f} × the time", "≤ 11 ×", ten),
        ("one new session", f"{day['seconds']:.2f} s, {day['rows']} rows", "≤ 3 s", day),
        ("pandas + Qlib's dump", f"{pandas['seconds'] / store['seconds']:.1f} × contract + store", "–", pandas),
    ]
    lines = ["| | measured | goal | seconds | CPU seconds | peak memory |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {name} | {measured} | {goal} | {r['seconds']:.2f} | {r['cpu_seconds']:.2f} | {r['peak_mib']:,} MiB |"
        for name, measured, goal, r in rows
    ]
    return "\n".join(lines)


def _save(results: dict[str, dict[str, Any]]) -> None:
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    (folder / "market.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
