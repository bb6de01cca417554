"""Killed ingests, several writers at once: nothing lost, nothing doubled, nothing half."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from assets.market.acceptance import conservation_errors, duplicate_keys
from assets.market.actions import refresh_actions
from assets.market.ingest.ingest import MARKET_TABLES, rebuild
from resources.warehouse import Warehouse
from tests.market.market_desk import HEADER, Desk, make_desk_in

FILES, ROWS = 24, 400
WORK = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.market.market_desk import make_desk_in
from assets.market.actions import refresh_actions
from assets.market.ingest.ingest import ingest
desk = make_desk_in(Path(sys.argv[1]), adjusted="none")
print("ready", flush=True)
desk.land()
ingest(desk.lake, desk.warehouse)
refresh_actions(desk.warehouse)
"""
WITHOUT_MOMENTS = {
    "bars": "* EXCLUDE (available_at, batch)",
    "corporate_actions": "* EXCLUDE (available_at)",
    "payloads": "* EXCLUDE (available_at, batch)",
    "rejected_bars": "* EXCLUDE (available_at, batch)",
    "bar_versions": "* EXCLUDE (available_at, batch, since, recorded)",
}


def filled(folder: Path) -> Desk:
    """A desk with many files of daily bars, some of them bad, with splits."""
    desk = make_desk_in(folder, adjusted="none")
    days = pd.bdate_range("2010-01-04", periods=ROWS)
    for number in range(FILES):
        draw = random.Random(number)
        lines = [f"{HEADER},dividend,split"]
        for day in days:
            close = round(50 + 10 * draw.random(), 2)
            split = 2 if draw.random() < 0.005 else 1
            lines.append(f"S{number:02},{day.date()},{close},70,40,{close},{draw.randrange(1000)},0,{split}")
        desk.write(f"s{number:02}.csv", "\n".join(lines) + "\n")
    return desk


def start(desk: Desk) -> subprocess.Popen[bytes]:
    script = WORK.format(root=str(Path(__file__).parents[2]))
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", script, str(desk.home.root.parent)]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(desk: Desk) -> None:
    process = start(desk)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()


def content(desk: Desk) -> dict[str, pd.DataFrame]:
    return {
        table: desk.warehouse.frame(f"SELECT {columns} FROM {table} ORDER BY ALL")
        for table, columns in WITHOUT_MOMENTS.items()
    }


def assert_same(desk: Desk, other: dict[str, pd.DataFrame]) -> None:
    assert conservation_errors(desk.warehouse, desk.lake) == []
    for table, frame in content(desk).items():
        pd.testing.assert_frame_equal(frame, other[table], obj=table)


def kill_and_rerun(folder: Path, moments: list[float]) -> None:
    undisturbed = filled(folder / "undisturbed")
    process = start(undisturbed)
    assert process.stdout is not None
    process.stdout.readline()
    began = time.monotonic()
    process.wait()
    took = time.monotonic() - began
    expected = content(undisturbed)
    assert len(expected["bars"]) > 0.9 * FILES * ROWS
    for number, moment in enumerate(moments):
        desk = filled(folder / f"killed-{number}")
        process = start(desk)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moment * took)
        process.send_signal(signal.SIGKILL)
        process.wait()
        run(desk)
        assert_same(desk, expected)


def write_together(folder: Path, times: int) -> None:
    alone = filled(folder / "alone")
    run(alone)
    expected = content(alone)
    for number in range(times):
        desk = filled(folder / f"together-{number}")
        processes = [start(desk) for _ in range(3)]
        for process in processes:
            _, errors = process.communicate()
            assert process.returncode == 0, errors.decode()
        assert duplicate_keys(desk.warehouse).empty
        assert_same(desk, expected)


@pytest.mark.slow
def test_a_killed_ingest_is_completed_by_the_next(tmp_path: Path) -> None:
    kill_and_rerun(tmp_path, [0.6])


@pytest.mark.slow
def test_an_ingest_killed_at_twenty_moments_always_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    draw = random.Random(7)
    kill_and_rerun(tmp_path, [draw.random() for _ in range(20)])


@pytest.mark.slow
def test_three_writers_at_once_neither_fail_nor_lose_a_row_twenty_times(tmp_path: Path) -> None:
    write_together(tmp_path, 20)


class KilledAtTheLast:
    """A connection whose process is killed before it replaces the last table."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def execute(self, statement: str) -> None:
        if statement == f"DELETE FROM {MARKET_TABLES[-1]}":
            raise KeyboardInterrupt
        self.connection.execute(statement)


@pytest.mark.slow
def test_a_killed_rebuild_leaves_the_old_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = make_desk_in(tmp_path, adjusted="none")
    lines = [f"AAPL,2012-01-0{day},10,11,9,10,1,0,{split}" for day, split in ((3, 1), (4, 2), (5, "x"))]
    desk.ingest_text("\n".join([f"{HEADER},dividend,split", *lines]))
    desk.ingest_text("\n".join([f"{HEADER},dividend,split", lines[0].replace("10,1,", "11,1,"), *lines[1:]]))
    refresh_actions(desk.warehouse)
    whole = content(desk)
    assert all(len(frame) for frame in whole.values())
    # What a rebuild makes good, so that a table which it has replaced shows.
    with desk.warehouse.write() as connection:
        for table in MARKET_TABLES:
            connection.execute(f"DELETE FROM {table}")
    write = Warehouse.write

    @contextmanager
    def killed(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection | KilledAtTheLast]:
        with write(warehouse) as connection:
            yield KilledAtTheLast(connection) if warehouse.path == desk.warehouse.path else connection

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            rebuild(desk.lake, desk.warehouse)
    assert all(frame.empty for frame in content(desk).values())
    rebuild(desk.lake, desk.warehouse)
    assert_same(desk, whole)
