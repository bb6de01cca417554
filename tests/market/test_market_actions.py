"""Splits and dividends: told or derived, and what they do to prices as of a day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from market_desk import HEADER, Desk, make_desk_in

from assets.market.actions import impossible_dividends, refresh_actions
from assets.market.history import read_histories
from assets.market.ingest import ingest
from assets.market.lake import Lake
from resources.sources.protocol import Reading, Wanted
from resources.sources.sample import SampleSource


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The bars of the sample profile."""
    desk = make_desk_in(tmp_path_factory.mktemp("sample"))
    source = SampleSource(Reading("XNYS", "1d"))
    Lake(desk.home).land(
        source, Wanted(None, pd.Timestamp("2000-03-01").date(), pd.Timestamp("2013-03-01").date(), "1d")
    )
    ingest(desk.lake, desk.warehouse)
    refresh_actions(desk.warehouse)
    return desk


def test_every_row_of_the_sample_keeps_the_contract(sample: Desk) -> None:
    counts = sample.warehouse.frame("SELECT received, kept, folded, rejected FROM payloads").to_numpy().tolist()
    assert counts == [[12154, 12154, 0, 0]]


def test_the_splits_of_the_sample_are_found_and_no_other(sample: Desk) -> None:
    splits = sample.warehouse.frame("FROM corporate_actions WHERE kind = 'split' ORDER BY ex_date")
    assert [
        (s, str(d.date()), v) for s, d, v in zip(splits["symbol"], splits["ex_date"], splits["value"], strict=True)
    ] == [
        ("AAPL", "2000-06-21", 2.0),
        ("MSFT", "2003-02-18", 2.0),
        ("AAPL", "2005-02-28", 2.0),
    ]


def test_the_dividends_of_the_sample_are_found_with_their_cash(sample: Desk) -> None:
    found = sample.warehouse.frame("FROM corporate_actions WHERE kind = 'dividend'")
    assert found.groupby("symbol").size().to_dict() == {"AAPL": 3, "IBM": 52, "MSFT": 37}
    special = found[(found["symbol"] == "MSFT") & (found["value"] > 1)]
    assert special["ex_date"].dt.strftime("%Y-%m-%d").tolist() == ["2004-11-15"]
    assert special["value"].iloc[0] == pytest.approx(3.08, rel=0.02)


def test_the_adjusted_close_of_the_sample_is_reproduced(sample: Desk) -> None:
    import bokeh_sampledata

    given = pd.read_csv(Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz").sort_values(
        ["Ticker", "Date"]
    )
    histories = read_histories(sample.warehouse, "1d")
    assert len(histories) == 5
    for symbol, history in histories.items():
        theirs = given.loc[given["Ticker"] == symbol, "Adj Close"].to_numpy()
        ours = history.closes_seen_from(len(history) - 1)
        np.testing.assert_allclose(ours / ours[-1], theirs / theirs[-1], rtol=1e-6)


def test_total_return_is_right_through_a_split_and_a_dividend(desk: Desk) -> None:
    lines = [
        HEADER + ",dividend,split",
        "A,2012-01-03,100,100,100,100,10,0,1",
        "A,2012-01-04,25,25,25,25,40,0,4",
        "A,2012-01-05,24,24,24,24,40,1,1",
        "A,2012-01-06,30,30,30,30,40,0,1",
    ]
    desk.ingest_text("\n".join(lines))
    refresh_actions(desk.warehouse)
    history = read_histories(desk.warehouse, "1d")["A"]
    # One share of 100 becomes four of 25; each pays 1, reinvested at 24: 4 × 25 / 24 shares at 30.
    assert history.growth[-1] * 30 / 100 == pytest.approx(4 * 25 / 24 * 30 / 100)
    assert history.closes_seen_from(3).tolist() == pytest.approx([24, 24, 24, 30])
    # As of the day before the dividend nothing is known of it.
    assert history.closes_seen_from(1).tolist() == pytest.approx([25, 25])
    adjusted = desk.warehouse.frame("SELECT close, volume FROM adjusted_bars ORDER BY ts")
    assert adjusted["close"].tolist() == pytest.approx([24, 24, 24, 30])
    assert adjusted["volume"].tolist() == [40, 40, 40, 40]


def test_a_dividend_of_a_split_day_is_paid_on_the_new_shares(desk: Desk) -> None:
    lines = [HEADER + ",dividend,split", "A,2012-01-03,100,100,100,100,10,0,1", "A,2012-01-04,49,49,49,49,20,1,2"]
    desk.ingest_text("\n".join(lines))
    refresh_actions(desk.warehouse)
    history = read_histories(desk.warehouse, "1d")["A"]
    assert history.closes_seen_from(1).tolist() == pytest.approx([49, 49])


def test_an_adjusted_close_of_two_decimals_gives_no_false_dividends(desk: Desk) -> None:
    days = pd.bdate_range("2012-01-03", "2012-01-13")
    closes = [10.01, 10.17, 9.93, 10.3, 10.11, 10.29, 10.05, 10.2, 10.4]
    factor = [0.4217] * 5 + [0.4217 / 0.98] * 4
    lines = [HEADER + ",adj_close"]
    for day, close, adjust in zip(days, closes, factor, strict=True):
        lines.append(f"A,{day.date()},{close},{close},{close},{close},1,{close * adjust:.2f}")
    desk.ingest_text("\n".join(lines))
    refresh_actions(desk.warehouse)
    actions = desk.warehouse.frame("FROM corporate_actions")
    assert actions["ex_date"].dt.day.tolist() == [10]
    assert actions["value"].iloc[0] == pytest.approx(0.02 * 10.11, rel=0.15)


def test_a_dividend_above_the_price_is_left_out_and_reported(desk: Desk) -> None:
    lines = [HEADER + ",dividend,split", "A,2012-01-03,10,10,10,10,1,0,1", "A,2012-01-04,10,10,10,10,1,12,1"]
    desk.ingest_text("\n".join(lines))
    assert refresh_actions(desk.warehouse).total == 0
    assert impossible_dividends(desk.warehouse)["cash"].tolist() == [12.0]


def test_a_second_refresh_changes_nothing(sample: Desk) -> None:
    before = sample.warehouse.path.stat().st_mtime_ns
    refreshed = refresh_actions(sample.warehouse)
    assert (refreshed.added, refreshed.withdrawn) == (0, 0)
    assert sample.warehouse.path.stat().st_mtime_ns == before
