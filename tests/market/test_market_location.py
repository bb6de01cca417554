"""The warehouse anywhere that DuckDB attaches, and read while a run works."""

from __future__ import annotations

import threading
from pathlib import Path

import pandas as pd

from assets.market.actions import refresh_actions
from assets.market.ingest.ingest import ingest, rebuild
from resources.settings import Settings
from resources.warehouse import Warehouse
from tests.market.market_desk import GOOD, HEADER, Desk


def test_bars_live_at_any_uri_that_duckdb_attaches(desk: Desk, tmp_path: Path) -> None:
    settings = Settings(home=desk.home.root, warehouse=f"duckdb:{tmp_path / 'elsewhere.db'}")
    elsewhere = Warehouse.of(settings)
    desk.write("bars.csv", f"{HEADER},split\n{GOOD},1\nAAPL,2012-01-04,5,6,4,5,1,2\nAAPL,2012-01-05,x,6,4,5,1,1\n")
    desk.land()
    ingest(desk.lake, elsewhere)
    refresh_actions(elsewhere)
    assert (tmp_path / "elsewhere.db").is_file()
    assert not desk.home.warehouse.exists()
    before = elsewhere.frame("FROM bars ORDER BY ts")
    assert len(before) == 2
    assert len(elsewhere.frame("FROM adjusted_bars")) == 2
    assert len(elsewhere.frame("FROM bars_as_known(TIMESTAMP '2999-01-01')")) == 2
    rebuild(desk.lake, elsewhere)
    pd.testing.assert_frame_equal(elsewhere.frame("FROM bars ORDER BY ts"), before)


def test_without_a_setting_the_warehouse_is_in_the_home(desk: Desk) -> None:
    assert Warehouse.of(Settings(home=desk.home.root)).path == desk.home.warehouse


def test_readers_are_answered_while_files_are_ingested(desk: Desk) -> None:
    desk.ingest_text(f"{HEADER}\n{GOOD}\n", "first.csv")
    for number in range(4):
        desk.write(f"more{number}.csv", f"{HEADER}\n{GOOD.replace('AAPL', f'S{number}')}\n")
    counts: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            counts.append(int(desk.warehouse.frame("SELECT count(*) AS n FROM bars")["n"][0]))

    reader = threading.Thread(target=read)
    reader.start()
    desk.ingest()
    done.set()
    reader.join()
    # All of a delivery or nothing of it.
    assert set(counts) <= {1, 5}
    assert counts[0] == 1
