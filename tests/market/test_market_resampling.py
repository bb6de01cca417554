"""Files of a finer frequency: refused with the setting, or aggregated within the hours of each session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from assets.market.ingest.refusals import PayloadsRefusedError
from assets.market.outcomes import file_outcomes, outcomes_frame
from resources.settings import MarketSettings
from tests.market.market_desk import HEADER, Desk


def minutes(first: str, last: str, step: int) -> list[str]:
    return [f"{stamp:%Y-%m-%d %H:%M}" for stamp in pd.date_range(first, last, freq=f"{step}min")]


def rows(stamps: Sequence[str], symbol: str = "AAPL") -> list[str]:
    """One row per timestamp; row n opens at 100 + n / 8, its volume is n + 1."""
    prices = [100 + n / 8 for n in range(len(stamps))]
    return [
        f"{symbol},{stamp},{price},{price + 1},{price - 1},{price + 0.5},{n + 1}"
        for n, (stamp, price) in enumerate(zip(stamps, prices, strict=True))
    ]


def file_of(*lines: str) -> str:
    return "\n".join([HEADER, *lines]) + "\n"


def values(desk: Desk) -> list[list[object]]:
    shown = desk.bars()
    times = shown["ts"].dt.strftime("%m-%d %H:%M")
    return [
        [time, *bar, list(flags)]
        for time, bar, flags in zip(
            times, shown[["open", "high", "low", "close", "volume"]].to_numpy().tolist(), shown["flags"], strict=True
        )
    ]


def test_minutes_become_the_bars_of_an_hour_and_every_row_is_counted(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h", resample=True)
    stamps = minutes("2012-01-03 09:30", "2012-01-03 15:59", 15)
    done = desk.ingest_text(file_of(*rows(stamps)))
    bars = values(desk)
    # Four quarters an hour, and two in the last half hour of the session.
    assert bars[0] == ["01-03 14:30", 100, 101.375, 99, 100.875, 1 + 2 + 3 + 4, []]
    assert bars[-1] == ["01-03 20:30", 103, 104.125, 102, 103.625, 25 + 26, []]
    assert (done.received, done.kept, done.folded, done.rejected) == (26, 7, 19, 0)
    outcome = file_outcomes(desk.warehouse, desk.lake, "1h")[0]
    assert outcome.aggregated == 19
    assert "19 aggregated" in outcome.text
    assert outcomes_frame([outcome])["aggregated"].tolist() == [19]


@pytest.mark.parametrize(
    ("calendar", "open_hours", "stamp"),
    [
        ("XSHG", [("09:30", "11:29"), ("13:00", "14:59")], "start"),
        ("XSHG", [("09:35", "11:30"), ("13:05", "15:00")], "end"),
        ("XHKG", [("09:30", "11:59"), ("13:00", "15:59")], None),
        ("XNYS", [("09:30", "15:59")], None),
    ],
)
def test_days_are_made_of_the_rows_of_their_trading_hours(
    make_desk: Callable[..., Desk], calendar: str, open_hours: list[tuple[str, str]], stamp: str | None
) -> None:
    desk = make_desk(calendar=calendar, resample=True, stamp=stamp)
    days = ["2024-01-09", "2024-01-10"]
    stamps = [t for day in days for a, b in open_hours for t in minutes(f"{day} {a}", f"{day} {b}", 5)]
    at_night = ["2024-01-09 22:00"]
    done = desk.ingest_text(file_of(*rows(stamps), *rows(at_night)))
    half = len(stamps) // 2
    assert [bar[:2] + bar[4:] for bar in values(desk)] == [
        ["01-09 00:00", 100, 100.5 + (half - 1) / 8, half * (half + 1) / 2, []],
        ["01-10 00:00", 100 + half / 8, 100.5 + (2 * half - 1) / 8, half * (3 * half + 1) / 2, []],
    ]
    assert (done.kept, done.folded, desk.rules()) == (2, len(stamps) - 2, ["outside_hours"])


def test_days_of_a_market_that_never_closes_begin_at_midnight(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(calendar="24/7", resample=True)
    desk.ingest_text(file_of(*rows(minutes("2024-03-09 00:00", "2024-03-10 23:59", 240), "BTC-USD")))
    assert [bar[:1] + bar[5:] for bar in values(desk)] == [["03-09 00:00", 21, []], ["03-10 00:00", 57, []]]


def test_a_half_day_is_complete_when_it_closes_early(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(resample=True)
    days = [("2024-07-02", "15:59"), ("2024-07-03", "12:59")]
    stamps = [t for day, close in days for t in minutes(f"{day} 09:30", f"{day} {close}", 30)]
    desk.ingest_text(file_of(*rows(stamps)))
    assert [bar[6] for bar in values(desk)] == [[], ["half_day"]]


def test_hours_that_begin_with_the_clock_fill_a_day(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(resample=True)
    hours = ["09:30", *(f"{hour}:00" for hour in range(10, 16))]
    stamps = [f"2024-03-0{day} {hour}" for day in (5, 6, 7) for hour in hours]
    done = desk.ingest_text(file_of(*rows(stamps)))
    assert [bar[6] for bar in values(desk)] == [[], [], []]
    assert done.rejected == 0


def test_a_bar_that_lacks_rows_is_flagged_until_they_come(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(resample=True)
    stamps = [t for day in ("04", "05") for t in minutes(f"2024-03-{day} 09:30", f"2024-03-{day} 15:59", 30)]
    lines = rows(stamps)
    broken = lines[3].replace(f",{99.375},", ",-1,")
    desk.ingest_text(file_of(*lines[:3], broken, *lines[4:]))
    assert [bar[6] for bar in values(desk)] == [["incomplete"], []]
    assert desk.rules() == ["price_not_positive"]
    assert desk.ingest_text(file_of(*lines)).sessions
    assert [bar[6] for bar in values(desk)] == [[], []]
    assert values(desk)[0][5] == sum(range(1, 14))
    desk.ingest_text(file_of(*lines, *rows(minutes("2024-03-06 09:30", "2024-03-06 09:30", 30))))
    assert [bar[6] for bar in values(desk)] == [[], [], ["incomplete"]]


def test_a_missing_volume_makes_the_sum_unknown(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h", resample=True)
    lines = rows(minutes("2012-01-03 09:30", "2012-01-03 11:29", 30))
    desk.ingest_text(file_of(lines[0].rsplit(",", 1)[0] + ",", *lines[1:]))
    volumes = desk.bars()["volume"].tolist()
    assert np.isnan(volumes[0])
    assert volumes[1] == 7


def test_repeated_rows_count_once_and_contradicting_ones_not_at_all(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h", resample=True)
    lines = rows(minutes("2012-01-03 09:30", "2012-01-03 12:29", 15))
    other = lines[5].replace(",6", ",60")
    done = desk.ingest_text(file_of(*lines, lines[0], other))
    assert [(bar[5], bar[6]) for bar in values(desk)] == [(10, []), (5 + 7 + 8, ["incomplete"]), (42, [])]
    assert (done.received, done.kept, done.folded, done.rejected) == (14, 3, 9, 2)
    assert set(desk.rules()) == {"conflicting_duplicate"}


def test_files_that_contradict_each_other_lose_whole_bars_until_one_is_mended(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h", resample=True)
    lines = rows(minutes("2012-01-03 09:30", "2012-01-03 11:29", 15))
    desk.write("one/AAPL.csv", file_of(*lines))
    other = desk.write("two/AAPL.csv", file_of(lines[0].rsplit(",", 1)[0] + ",77", *lines[1:]))
    nested = Desk(desk.folder, desk.home, desk.reading, "*/*.csv")
    done = nested.ingest()
    assert (done.kept, done.rejected) == (1, 8)
    other.write_text(file_of(*lines))
    nested.ingest()
    assert [bar[5] for bar in values(nested)] == [10, 26]
    # Those of the first version of the other file.
    assert len(nested.rules()) == 4


def test_a_row_that_reaches_into_the_next_bar_belongs_to_none(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h", resample=True)
    desk.ingest_text(file_of(*rows(minutes("2012-01-03 09:30", "2012-01-03 15:59", 25))))
    assert set(desk.rules()) == {"crosses_bars"}
    assert desk.rules() == ["crosses_bars"] * 5
    assert all("incomplete" in str(bar[6]) for bar in values(desk))


@pytest.mark.parametrize(("frequency", "step"), [("1d", 5), ("1h", 15), ("1d", 60)])
def test_without_the_setting_a_finer_file_is_refused_with_its_name(
    make_desk: Callable[..., Desk], frequency: str, step: int
) -> None:
    desk = make_desk(frequency=frequency)
    with pytest.raises(PayloadsRefusedError, match=rf"bars\.csv: .*{step} min.*market\.resample = true"):
        desk.ingest_text(file_of(*rows(minutes("2012-01-03 09:30", "2012-01-03 15:29", step))))


def test_finer_rows_that_end_their_bars_are_recognised(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(resample=True)
    stamps = [t for day in ("04", "05") for t in minutes(f"2024-03-{day} 10:00", f"2024-03-{day} 16:00", 30)]
    with pytest.raises(PayloadsRefusedError, match=r"market\.stamp"):
        desk.ingest_text(file_of(*rows(stamps)))


def test_the_setting_changes_nothing_for_bars_of_the_frequency(make_desk: Callable[..., Desk]) -> None:
    lines = rows(["2012-01-03", "2012-01-04", "2012-01-05"])
    plain, set_on = make_desk("plain"), make_desk("set", resample=True)
    assert plain.ingest_text(file_of(*lines)) == set_on.ingest_text(file_of(*lines))
    assert values(plain) == values(set_on)


def test_only_files_are_aggregated() -> None:
    with pytest.raises(ValueError, match="resample"):
        MarketSettings(resample=True)


def test_sums_do_not_depend_on_the_order_of_rows(make_desk: Callable[..., Desk]) -> None:
    stamps = minutes("2012-01-03 09:30", "2012-01-03 15:59", 1)
    volumes = np.random.default_rng(3).lognormal(3, 2, len(stamps))
    lines = [f"AAPL,{stamp},10,11,9,10,{volume!r}" for stamp, volume in zip(stamps, volumes.tolist(), strict=True)]
    sums = []
    for name, order in (("a", lines), ("b", lines[::-1])):
        desk = make_desk(name, resample=True)
        desk.ingest_text(file_of(*order))
        sums.append(desk.bars()["volume"].item())
    assert all(a == b for a, b in pairwise(sums))
