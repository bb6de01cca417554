"""The contract as properties, and row conservation over a whole real file."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.market.acceptance import conservation_errors, contract_violations, duplicate_keys
from assets.market.actions import refresh_actions
from assets.market.ingest.ingest import ingest, rebuild
from assets.market.ingest.lake import Lake
from assets.market.ingest.rules import FLAGS, REASONS
from resources.sources.files import FilesSource
from resources.sources.protocol import Reading, Wanted
from tests.market.market_desk import HEADER, make_desk_in

REAL = Path(os.environ.get("CANDLECAST_BENCH_DATA", Path(__file__).parents[3] / "shared" / "data" / "us_daily.parquet"))

cell = st.one_of(
    st.sampled_from(
        ["", "10", "11", "9", "10.5", "-1", "0", "nan", "inf", "1e308", "ten", "1,5", "é", '"', "'", " 10 "]
    ),
    st.floats().map(repr),
    st.text(max_size=5),
)
day = st.one_of(
    st.dates(date(2012, 1, 1), date(2012, 2, 28)).map(str),
    st.sampled_from(["", "soon", "2012-01-03"]),
    st.text(max_size=8),
)
symbol = st.one_of(st.sampled_from(["A", "B", "a", "NA", "../x", ""]), st.text(max_size=6))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(symbol, day, cell, cell, cell, cell, cell), max_size=30))
def test_whatever_comes_every_row_is_kept_folded_or_rejected_and_what_is_kept_keeps_the_contract(
    rows: list[tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    desk = make_desk_in(tmp_path_factory.mktemp("any"))
    frame = pd.DataFrame(rows, columns=HEADER.split(","), dtype=str)
    frame.to_parquet(desk.folder / "bars.parquet")
    done = desk.ingest()
    assert done.received == len(rows)
    assert done.received == done.kept + done.folded + done.rejected
    assert contract_violations(desk.warehouse, "1d").empty
    assert duplicate_keys(desk.warehouse).empty
    assert set(desk.rules()) <= set(REASONS)
    assert set(desk.bars()["flags"].explode().dropna()) <= set(FLAGS)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_file(), reason="the file of real bars is not here: CANDLECAST_BENCH_DATA names one")
def test_every_row_of_a_whole_index_is_accounted_for_and_the_lake_gives_it_back(tmp_path: Path) -> None:
    desk = make_desk_in(tmp_path)
    source = FilesSource(REAL.name, REAL.parent, Reading("XNYS", "1d"))
    Lake(desk.home).land(source, Wanted(None, date(1999, 1, 1), date(2030, 1, 1), "1d"))
    done = ingest(desk.lake, desk.warehouse)
    refresh_actions(desk.warehouse)
    assert done.received == done.kept + done.folded + done.rejected == len(pd.read_parquet(REAL, columns=["symbol"]))
    assert conservation_errors(desk.warehouse, desk.lake) == []
    tables = ("bars", "rejected_bars", "payloads", "corporate_actions")
    original = {table: desk.warehouse.frame(f"FROM {table} ORDER BY ALL") for table in tables}
    rebuild(desk.lake, desk.warehouse)
    for table in tables:
        pd.testing.assert_frame_equal(desk.warehouse.frame(f"FROM {table} ORDER BY ALL"), original[table])
