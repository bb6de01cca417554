"""Splits and dividends: reported or derived, and prices adjusted as of a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets.market.actions import (
    conflicting_actions,
    differing_actions,
    impossible_dividends,
    refresh_actions,
    unknown_actions,
)
from assets.market.checks import build_checks
from assets.market.history import read_histories
from assets.market.ingest.ingest import ingest
from assets.market.ingest.lake import Lake
from resources.candlecast import Candlecast
from resources.settings import Settings
from resources.sources.protocol import Reading, Wanted
from resources.sources.sample import SampleSource
from tests.market.market_desk import HEADER, Desk, make_desk_in


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


def test_every_row_of_the_sample_satisfies_the_contract(sample: Desk) -> None:
    counts = sample.warehouse.frame("SELECT received, kept, folded, rejected FROM payloads").to_numpy().tolist()
    assert counts == [[12154, 12154, 0, 0]]


def test_exactly_the_splits_of_the_sample_are_found(sample: Desk) -> None:
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
        ours = history.closes_as_of(len(history) - 1)
        np.testing.assert_allclose(ours / ours[-1], theirs / theirs[-1], rtol=1e-6)


def test_the_total_return_is_correct_over_a_split_and_a_dividend(desk: Desk) -> None:
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
    assert history.closes_as_of(3).tolist() == pytest.approx([24, 24, 24, 30])
    # As of the day before the dividend nothing is known of it.
    assert history.closes_as_of(1).tolist() == pytest.approx([25, 25])
    adjusted = desk.warehouse.frame("SELECT close, volume FROM adjusted_bars ORDER BY ts")
    assert adjusted["close"].tolist() == pytest.approx([24, 24, 24, 30])
    assert adjusted["volume"].tolist() == [40, 40, 40, 40]


def test_a_dividend_of_a_split_day_is_paid_on_the_new_shares(desk: Desk) -> None:
    lines = [HEADER + ",dividend,split", "A,2012-01-03,100,100,100,100,10,0,1", "A,2012-01-04,49,49,49,49,20,1,2"]
    desk.ingest_text("\n".join(lines))
    refresh_actions(desk.warehouse)
    history = read_histories(desk.warehouse, "1d")["A"]
    assert history.closes_as_of(1).tolist() == pytest.approx([49, 49])


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


SPLIT_ADJUSTED = [
    "A,2012-01-03,100,101,99,100,4000,0,0",
    "A,2012-01-04,100,101,99,100,4000,0,0",
    "A,2012-01-05,101,102,100,101,4000,0,4",
]


@pytest.mark.parametrize(
    ("last", "rule"),
    [
        ((SPLIT_ADJUSTED[2],), []),
        (("A,2012-01-05,101,100.5,100,101,4000,0,4",), ["open_outside_range"]),
        ((SPLIT_ADJUSTED[2], "A,2012-01-05,101,102,100,101.5,4000,0,4"), ["conflicting_duplicate"] * 2),
        ((SPLIT_ADJUSTED[2], SPLIT_ADJUSTED[2]), []),
    ],
)
def test_a_split_scales_earlier_prices_even_if_its_own_row_is_rejected(
    make_desk: Callable[..., Desk], last: tuple[str, ...], rule: list[str]
) -> None:
    desk = make_desk(basis="split-adjusted")
    desk.ingest_text("\n".join([HEADER + ",dividend,split", *SPLIT_ADJUSTED[:2], *last]))
    assert desk.rules() == rule
    bars = desk.bars().head(2)
    assert bars["close"].tolist() == [400, 400]
    assert bars["volume"].tolist() == [1000, 1000]


def test_prices_before_conflicting_splits_are_rejected(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(basis="split-adjusted")
    lines = [*SPLIT_ADJUSTED, SPLIT_ADJUSTED[2].removesuffix("4") + "5", "A,2012-01-06,101,102,100,101,4000,0,0"]
    desk.ingest_text("\n".join([HEADER + ",dividend,split", *lines]))
    assert desk.rules() == ["unclear_split"] * 2 + ["conflicting_duplicate"] * 2
    assert desk.bars()["close"].tolist() == [101]


def with_adjusted(cells: list[str], days: pd.DatetimeIndex | None = None) -> str:
    days = pd.bdate_range("2012-03-01", periods=len(cells)) if days is None else days
    closes = [f"20.{place % 9}3" for place in range(len(cells))]
    lines = [
        f"A,{day.date()},20,21,19,{close},1000,{cell}" for day, close, cell in zip(days, closes, cells, strict=True)
    ]
    return "\n".join([HEADER + ",adj_close", *lines])


def adjusted_cells(count: int = 20) -> list[str]:
    return [f"{(20 + place % 9 / 10 + 0.03) * 0.83:.2f}" for place in range(count)]


@pytest.mark.parametrize(
    ("cell", "rules", "unknown"),
    [
        ("NaN", [], 0),
        ("", [], 0),
        ("0", ["impossible_adjusted_close"], 0),
        ("-5", ["impossible_adjusted_close"], 0),
        ("inf", ["impossible_adjusted_close"], 0),
        ("1e308", ["impossible_adjusted_close"], 0),
        ("1e6", [], 2),
        ("5", [], 2),
        ("0.00001", [], 2),
    ],
)
def test_one_wrong_adjusted_close_gives_no_dividend(desk: Desk, cell: str, rules: list[str], unknown: int) -> None:
    cells = adjusted_cells()
    cells[7] = cell
    desk.ingest_text(with_adjusted(cells))
    assert refresh_actions(desk.warehouse).total == 0
    assert desk.rules() == rules
    bars = desk.bars()
    assert set(bars["dividend"].dropna()) == {0}
    assert sum("action_unknown" in flags for flags in bars["flags"]) == unknown


def test_an_unused_adjusted_close_rejects_no_row(desk: Desk) -> None:
    header = HEADER + ",dividend,split,adj_close"
    desk.ingest_text(f"{header}\nA,2012-01-03,10,11,9,10.5,1,0,1,-0.2\nA,2012-01-04,10,11,9,10.5,1,0,1,\n")
    assert desk.rules() == []


def test_rows_that_differ_only_in_their_adjusted_close_conflict(desk: Desk) -> None:
    row = "A,2012-01-03,10,11,9,10.5,1"
    desk.ingest_text(f"{HEADER},adj_close\n{row},10.5\n{row},5\n")
    assert desk.rules() == ["conflicting_duplicate"] * 2


def test_two_downloads_with_their_own_adjusted_closes_are_folded(desk: Desk) -> None:
    row = "A,2012-01-03,10,11,9,10.5,1"
    desk.write("a.csv", f"{HEADER},adj_close\n{row},10.5\n")
    done = desk.ingest_text(f"{HEADER},adj_close\n{row},5\n", "b.csv")
    assert (done.kept, done.folded, done.rejected) == (1, 1, 0)


def test_a_factor_is_used_only_if_prices_are_multiplied_by_it(make_desk: Callable[..., Desk]) -> None:
    text = (
        f"{HEADER},factor\nA,2012-01-03,10,11,9,10.5,1,nan\nA,2012-01-04,10,11,9,10.5,1,\nA,2012-01-05,10,11,9,10,1,2"
    )
    raw, multiplied = make_desk("raw", adjusted="none"), make_desk("factor", basis="factor")
    raw.ingest_text(text)
    assert raw.rules() == []
    multiplied.ingest_text(text)
    assert multiplied.rules() == ["impossible_action"] * 2
    assert multiplied.bars()["close"].tolist() == [5]


TWO_DAYS = {
    # A split of 4 for 1, no split column; a dividend of 1, no dividend column; both at once.
    "dividend": (["A,2012-01-03,100,101,99,100,1000,24,0", "A,2012-01-04,25,26,24,25,4000,24,0"], [("split", 4.0)]),
    "split": (["A,2012-01-03,25,26,24,24,1000,23,1", "A,2012-01-04,23,25,23,23,4000,23,1"], [("dividend", 1.0)]),
}


@pytest.mark.parametrize("columns", TWO_DAYS)
def test_an_action_without_a_column_is_derived_from_the_adjusted_close(desk: Desk, columns: str) -> None:
    lines, expected = TWO_DAYS[columns]
    desk.ingest_text("\n".join([f"{HEADER},adj_close,{columns}", *lines]))
    refresh_actions(desk.warehouse)
    actions = desk.warehouse.frame("FROM corporate_actions")
    assert list(zip(actions["kind"], actions["value"], strict=True)) == expected
    assert actions["origin"].tolist() == ["derived from adjusted close"]


def test_a_large_dividend_near_a_split_ratio_is_not_a_split_with_negative_cash(desk: Desk) -> None:
    # KLAC paid 16.50 on 84.18: growth 1.245, next to 5 for 4.
    lines = ["A,2012-01-03,84.18,84.18,84.18,84.18,1,67.613247", "A,2012-01-04,67.335,67.335,67.335,67.335,1,67.335"]
    desk.ingest_text("\n".join([f"{HEADER},adj_close", *lines]))
    assert desk.bars()["split"].tolist()[1] == 1
    assert desk.bars()["dividend"].tolist()[1] == pytest.approx(16.5, rel=0.01)


def test_a_split_is_found_if_the_adjusted_close_is_slightly_lower(desk: Desk) -> None:
    lines = ["A,2012-01-03,100,100,100,100,1,25.01", "A,2012-01-04,25,25,25,25,4,25", "A,2012-01-05,25,25,25,25,4,25"]
    desk.ingest_text("\n".join([f"{HEADER},adj_close", *lines]))
    assert desk.bars()[["split", "dividend"]].to_numpy().tolist()[1] == [4, 0]


def test_a_reported_dividend_is_not_part_of_a_derived_split(desk: Desk) -> None:
    # 2 for 1 and 5 in cash on the new shares of 45.
    lines = ["A,2012-01-03,100,100,100,100,1,45,0", "A,2012-01-04,45,45,45,45,2,45,5"]
    desk.ingest_text("\n".join([f"{HEADER},adj_close,dividend", *lines]))
    assert desk.bars()["split"].tolist()[1] == 2
    assert unknown_actions(desk.warehouse).empty


def test_an_action_between_two_payloads_is_flagged_as_unknown(desk: Desk) -> None:
    text = with_adjusted(adjusted_cells(3)).splitlines()
    for number, line in enumerate(text[1:]):
        desk.ingest_text(f"{text[0]}\n{line}\n", f"{number}.csv")
    assert [list(flags) for flags in desk.bars()["flags"]] == [[], ["action_unknown"], ["action_unknown"]]
    found = unknown_actions(desk.warehouse)
    assert found[["symbol", "bars"]].to_numpy().tolist() == [["A", 2]]
    check = next(check for check in build_checks() if check.node_def.name.endswith("corporate_actions_are_complete"))
    result = check(candlecast=Candlecast(Settings(), warehouse=desk.warehouse))
    assert isinstance(result, dg.AssetCheckResult) and result.description
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "2 bars of 1 series" in result.description


def test_overlapping_payloads_contain_every_action(desk: Desk) -> None:
    lines = [
        "A,2012-01-03,100,101,99,100,1000,24",
        "A,2012-01-04,25,26,24,25,4000,24",
        "A,2012-01-05,24,25,23,24,4000,24",
    ]
    for day in (1, 2):
        desk.ingest_text("\n".join([HEADER + ",adj_close", *lines[day - 1 : day + 1]]), f"{day}.csv")
    refresh_actions(desk.warehouse)
    actions = desk.warehouse.frame("FROM corporate_actions ORDER BY ex_date")
    assert list(zip(actions["kind"], actions["value"], strict=True)) == [("split", 4.0), ("dividend", 1.0)]
    assert unknown_actions(desk.warehouse).empty


def hourly(opens: str, *days: tuple[str, float, list[float], list[float]]) -> str:
    """Six or seven bars a day from `opens`: day, price, a split and a dividend for every bar."""
    hour, minute = opens.split(":")
    return "\n".join(
        [HEADER + ",split,dividend"]
        + [
            f"A,{day} {int(hour) + place}:{minute},{price},{price + 1},{price - 1},{price},{place},{split},{dividend}"
            for day, price, splits, dividends in days
            for place, (split, dividend) in enumerate(zip(splits, dividends, strict=True))
        ]
    )


def test_a_split_of_an_exchange_that_opens_on_the_utc_day_before_starts_with_its_first_bar(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(calendar="XASX", frequency="1h")
    none = [0.0] * 6
    desk.ingest_text(
        hourly("10:00", ("2012-01-30", 100, [1.0] * 6, none), ("2012-01-31", 25, [4.0, *[1.0] * 5], [0.5, *none[1:]]))
    )
    refresh_actions(desk.warehouse)
    history = read_histories(desk.warehouse, "1h")["A"]
    seen = history.closes_as_of(11)
    assert seen.tolist() == pytest.approx([24.5] * 6 + [25] * 6)
    assert history.shares.tolist() == [1] * 6 + [4] * 6
    assert desk.warehouse.frame("SELECT close FROM adjusted_bars ORDER BY ts")["close"].tolist() == pytest.approx(seen)


def test_an_action_on_every_bar_of_its_day_counts_once(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h")
    desk.ingest_text(
        hourly("9:30", ("2012-01-30", 100, [1.0] * 7, [0.0] * 7), ("2012-01-31", 24.5, [4.0] * 7, [0.5] * 7))
    )
    refresh_actions(desk.warehouse)
    actions = desk.warehouse.frame("SELECT kind, value, price_factor FROM corporate_actions ORDER BY kind")
    assert actions.to_numpy().tolist() == [["dividend", 0.5, 0.98], ["split", 4.0, 0.25]]
    assert not any("jump" in flags for flags in desk.bars()["flags"])
    assert conflicting_actions(desk.warehouse).empty


def test_conflicting_actions_within_a_session_are_reported_and_not_used(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(frequency="1h")
    desk.ingest_text(
        hourly("9:30", ("2012-01-30", 100, [1.0] * 7, [0.0] * 7), ("2012-01-31", 25, [4.0, 5.0, *[1.0] * 5], [0.0] * 7))
    )
    assert refresh_actions(desk.warehouse).total == 0
    assert conflicting_actions(desk.warehouse)[["kind", "one", "other"]].to_numpy().tolist() == [["split", 4.0, 5.0]]


def also_hourly(desk: Desk) -> Desk:
    """A desk of hourly bars in another folder of the same home."""
    folder = desk.folder.parent / "hourly"
    folder.mkdir(exist_ok=True)
    return replace(desk, folder=folder, reading=replace(desk.reading, frequency="1h"))


def actions_of(desk: Desk) -> list[tuple[str, str, float]]:
    refresh_actions(desk.warehouse)
    found = desk.warehouse.frame("FROM corporate_actions ORDER BY ex_date, kind")
    return [
        (str(day.date())[5:], kind, value)
        for day, kind, value in zip(found["ex_date"], found["kind"], found["value"], strict=True)
    ]


def daily(*days: tuple[str, float, float, float]) -> str:
    lines = [f"A,{day},{price},{price + 1},{price - 1},{price},1,{split},{cash}" for day, price, split, cash in days]
    return "\n".join([HEADER + ",split,dividend", *lines])


def test_an_action_of_the_newest_intraday_bars_is_used_until_the_daily_bar_reports_it(desk: Desk) -> None:
    before = [("2012-01-04", 100, 1, 0), ("2012-01-05", 100, 1, 0)]
    desk.ingest_text(daily(*before))
    hour = also_hourly(desk)
    days = [("2012-01-05", 100, [1.0] * 7, [0.0] * 7), ("2012-01-06", 24.5, [4.0] * 7, [0.5] * 7)]
    hour.ingest_text(hourly("9:30", *days))
    expected = [("01-06", "dividend", 0.5), ("01-06", "split", 4.0)]
    assert actions_of(desk) == expected
    seen = read_histories(desk.warehouse, "1h")["A"].closes_as_of(13)
    assert seen.tolist() == pytest.approx([24.5] * 14)
    desk.ingest_text(daily(*before, ("2012-01-06", 24.5, 4, 0.5)))
    assert actions_of(desk) == expected
    assert desk.warehouse.frame("SELECT price_factor FROM corporate_actions ORDER BY kind")[
        "price_factor"
    ].tolist() == [
        pytest.approx(0.98),
        0.25,
    ]


def test_actions_of_intraday_bars_are_used_if_daily_bars_have_none(desk: Desk) -> None:
    desk.ingest_text(f"{HEADER}\nA,2012-01-05,100,100,100,100,1\nA,2012-01-06,25,25,25,25,1\n")
    also_hourly(desk).ingest_text(
        hourly("9:30", ("2012-01-05", 100, [1.0] * 7, [0.0] * 7), ("2012-01-06", 25, [4.0] * 7, [0.0] * 7))
    )
    assert actions_of(desk) == [("01-06", "split", 4.0)]


@pytest.mark.parametrize("gap", ["daily", "hourly"])
def test_an_action_derived_over_a_gap_and_reported_by_another_frequency_counts_once(desk: Desk, gap: str) -> None:
    adjusted = f"{HEADER},adj_close\nA,{{}},100,101,99,100,1,25\nA,{{}},25,26,24,25,1,25\n"
    hour = also_hourly(desk)
    if gap == "daily":
        desk.ingest_text(adjusted.format("2012-01-04", "2012-01-06"))
        hour.ingest_text(hourly("9:30", *[("2012-01-05", 25, [4.0] * 7, [0.0] * 7)]))
    else:
        desk.ingest_text(daily(("2012-01-04", 100, 1, 0), ("2012-01-05", 25, 4, 0)))
        hour.ingest_text(adjusted.format("2012-01-04 09:30", "2012-01-06 09:30"))
    assert actions_of(desk) == [("01-05", "split", 4.0)]


HIGH_BELOW_LOW = "A,2012-01-05,10,9,11,10,1,4,0"
AROUND = ["A,2012-01-04,10,11,9,10,1,1,0", "{}", "A,2012-01-06,10,11,9,10,1,1,0", "A,2012-01-09,10,11,9,10.5,1,1,0"]


@pytest.mark.parametrize(
    "lost",
    [
        HIGH_BELOW_LOW,
        "A,2012-01-05,10,9,11,10,1,1,0.5",
        "A,2012-01-05,10,11,9,10,1,1:10,0",
        "A,2012-01-05,10,11,9,10,1,1,0.5 USD",
        "A,2012-01-05,10,11,9,10,1,1,-1",
        "A,2012-01-05,,,,,,4,0",
        "A,2012-01-05,10,11,9,10,1,1,0\nA,2012-01-05,10,11,9,10,1,4,0",
    ],
)
def test_an_action_on_a_rejected_row_is_unknown_at_the_next_bar(desk: Desk, lost: str) -> None:
    desk.ingest_text("\n".join([HEADER + ",split,dividend", *AROUND]).format(lost))
    flagged = [bar for bar in desk.bars().to_dict("records") if "action_unknown" in bar["flags"]]
    assert [(bar["session"].day, bar["actions"]) for bar in flagged] == [(6, "columns, unknown")]
    # With the corrected row it is known.
    desk.ingest_text("\n".join([HEADER + ",split,dividend", *AROUND]).format("A,2012-01-05,2.5,3,2,2.5,1,4,0"))
    assert unknown_actions(desk.warehouse).empty
    assert actions_of(desk) == [("01-05", "split", 4.0)]


def test_an_action_of_a_day_without_a_session_is_unknown_at_the_next_bar(desk: Desk) -> None:
    desk.ingest_text("\n".join([HEADER + ",split,dividend", *AROUND]).format("A,2012-01-07,10,11,9,10,1,4,0"))
    flagged = [bar["session"].day for bar in desk.bars().to_dict("records") if "action_unknown" in bar["flags"]]
    assert flagged == [9]


@pytest.mark.parametrize(
    "lost", ["A,2012-01-05,10,9,11,10,1,1,0", "A,2012-01-05,10,9,11,10,1,0,", "A,2012-01-05,,,,,,,"]
)
def test_a_rejected_row_without_an_action_leaves_no_action_unknown(desk: Desk, lost: str) -> None:
    desk.ingest_text("\n".join([HEADER + ",split,dividend", *AROUND]).format(lost))
    assert desk.rejected()["row_number"].tolist() == [2]
    assert unknown_actions(desk.warehouse).empty


def test_an_action_reported_by_another_bar_of_the_session_is_known(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h")
    lines = hourly("8:30", ("2012-01-30", 100, [1.0] * 8, [0.0] * 8), ("2012-01-31", 25, [4.0] * 8, [0.5] * 8))
    desk.ingest_text(lines)
    assert desk.rules() == ["outside_hours"] * 2
    assert unknown_actions(desk.warehouse).empty
    # A file beside it that has the day tells it too.
    desk = make_desk("two")
    desk.write("a.csv", "\n".join([HEADER + ",split,dividend", *AROUND]).format(HIGH_BELOW_LOW))
    desk.ingest_text(daily(("2012-01-05", 2.5, 4, 0)), "b.csv")
    assert unknown_actions(desk.warehouse).empty


@pytest.mark.parametrize("names", [("a.csv", "b.csv"), ("b.csv", "a.csv")])
@pytest.mark.parametrize("columns", ["1,0", "4,0", "1,0.5", "0,"])
def test_of_equal_bars_the_one_with_actions_is_kept(desk: Desk, names: tuple[str, str], columns: str) -> None:
    row = "A,2012-01-04,10,11,9,10,1"
    desk.write(names[0], f"{HEADER},split,dividend\n{row},{columns}\n")
    done = desk.ingest_text(f"{HEADER}\n{row}\n", names[1])
    assert (done.kept, done.folded, done.rejected) == (1, 1, 0)
    split, cash = columns.split(",")
    assert desk.bars()["actions"].tolist() == ["columns"]
    assert desk.bars()["split"].tolist() == [float(split) or 1]
    assert desk.bars()["dividend"].dropna().tolist() == ([float(cash)] if cash else [])


def test_of_equal_rows_of_one_file_the_one_with_actions_is_kept(desk: Desk) -> None:
    row = "A,2012-01-04,10,11,9,10,1"
    done = desk.ingest_text(f"{HEADER},split,dividend\n{row},,\n{row},4,0.5\n{row},4,\n")
    assert (done.kept, done.folded, done.rejected) == (1, 2, 0)
    assert desk.bars()[["split", "dividend"]].to_numpy().tolist() == [[4, 0.5]]


@pytest.mark.parametrize("columns", ["4,0", "1,0.5"])
def test_equal_bars_with_different_actions_conflict(desk: Desk, columns: str) -> None:
    row = "A,2012-01-04,10,11,9,10,1"
    desk.write("a.csv", f"{HEADER},split,dividend\n{row},{columns}\n")
    done = desk.ingest_text(f"{HEADER},split,dividend\n{row},1,0\n", "b.csv")
    assert (done.kept, done.folded, done.rejected) == (0, 0, 2)


@pytest.mark.parametrize("names", [("a.csv", "b.csv"), ("b.csv", "a.csv")])
def test_overlapping_files_contain_every_action_of_each(desk: Desk, names: tuple[str, str]) -> None:
    days = [f"2012-01-{day:02}" for day in (3, 4, 5, 6, 9, 10)]
    older = zip(days[:4], (100, 101, 102, 103), (98, 98.98, 99.96, 100.94), strict=True)
    newer = zip(days[2:], (102, 103, 104, 105), (101, 102, 104, 105), strict=True)
    for name, rows in zip(names, (older, newer), strict=True):
        lines = [f"A,{day},{close},{close},{close},{close},1,{adjusted}" for day, close, adjusted in rows]
        # A duplicate row is not a neighbour of itself.
        desk.write(name, "\n".join([HEADER + ",adj_close", *lines, *lines[-2:]]))
    done = desk.ingest()
    assert (done.received, done.kept, done.folded, done.rejected) == (12, 6, 6, 0)
    ((day, kind, value),) = actions_of(desk)
    assert (day, kind) == ("01-09", "dividend") and value == pytest.approx(1, abs=0.02)
    assert unknown_actions(desk.warehouse).empty


def test_a_dividend_that_a_coarse_adjusted_close_cannot_show_is_unknown(desk: Desk) -> None:
    # Two decimals of 0.46: a step of the last digit is 2 %; a split shows all the same.
    closes = [(100.0, 0.46), (101.0, 0.46), (50.5, 0.46), (51.0, 0.53)]
    lines = [
        f"A,2012-01-{day:02},{close},{close},{close},{close},1,{adjusted}"
        for day, (close, adjusted) in zip((3, 4, 5, 6), closes, strict=True)
    ]
    desk.ingest_text("\n".join([HEADER + ",adj_close", *lines]))
    bars = desk.bars()
    assert bars["actions"].tolist() == [
        "unknown",
        "unknown",
        "derived from adjusted close, unknown",
        "derived from adjusted close",
    ]
    assert bars["dividend"].isna().tolist() == [True, True, True, False]
    assert bars["split"].tolist()[2:] == [2, 1]
    assert ["action_unknown" in flags for flags in bars["flags"]] == [False, True, True, False]


@pytest.mark.parametrize("last", ["1e6", "18.2", "17.31", "17.41", "5"])
def test_a_later_bar_changes_no_derived_action(make_desk: Callable[..., Desk], last: str) -> None:
    """Prefixes of a file, with a split, a dividend and a wrong adjusted close on the bar before the last."""
    closes = [20.5, 20.7, 20.4, 10.3, 10.1, 9.9, 10.2, 10.4]
    adjusted = [*(f"{close * 0.415:.2f}" for close in closes[:3]), *(f"{close * 0.83:.2f}" for close in closes[3:5])]
    adjusted += ["8.47", last, "8.9"]  # 9.9 after a dividend of 0.3; then the cell in question
    days = pd.bdate_range("2012-01-03", "2012-01-12").strftime("%Y-%m-%d")
    lines = [f"A,{day},{c},{c},{c},{c},1,{a}" for day, c, a in zip(days, closes, adjusted, strict=True)]
    known: list[pd.DataFrame] = []
    for count in range(2, len(lines) + 1):
        desk = make_desk(f"desk{count}")
        desk.ingest_text("\n".join([f"{HEADER},adj_close", *lines[:count]]))
        known.append(desk.bars()[["ts", "dividend", "split", "actions"]])
    for shorter in known:
        pd.testing.assert_frame_equal(shorter, known[-1].head(len(shorter)))
    assert (known[-1]["split"] == 2).sum() == 1


def test_stated_actions_that_the_adjusted_close_contradicts_are_named(desk: Desk) -> None:
    lines = [
        HEADER + ",dividend,split,adj_close",
        "A,2012-01-03,40,40,40,40,1,0,1,18",
        "A,2012-01-04,20,20,20,20,2,0,2,18",  # both say 2 for 1
        "A,2012-01-05,18,18,18,18,2,2,1,18",  # both say 2 of 20
        "A,2012-01-06,17,17,17,17,2,1,1,17.5",  # 1 of 18, and the adjusted close says 0.51
        "A,2012-01-09,17,17,17,17,2,0,1,18.2",  # nothing, and the adjusted close says 0.65
        "A,2012-01-10,17,17,17,17,2,0,1,",
        "A,2012-01-11,17,17,17,17,2,0,1,18.2",
        "A,2012-01-12,17,17,17,17,2,0,1,18.22",  # 0.1 %
    ]
    desk.ingest_text("\n".join(lines))
    refresh_actions(desk.warehouse)
    found = differing_actions(desk.warehouse, "1d")
    assert [(row.symbol, f"{row.session:%Y-%m-%d}", row.dividend) for row in found.itertuples()] == [
        ("A", "2012-01-09", 0),
        ("A", "2012-01-06", 1),
    ]
    used = desk.warehouse.frame("SELECT value FROM corporate_actions ORDER BY ex_date")["value"].tolist()
    assert used == [2, 2, 1], "what the source states is used"
    check = next(one for one in build_checks() if one.node_def.name.endswith("match_the_adjusted_close"))
    result = check(candlecast=Candlecast(Settings(), warehouse=desk.warehouse))
    assert isinstance(result, dg.AssetCheckResult) and result.description
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "2 bars" in result.description and "A 2012-01-09" in result.description
