"""Bars stamped at their end, from the file to the report: no bar is lost, and step 1 of a forecast is the next bar.

And the grids of exchanges whose lunch break cuts a bar short.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from resources.calendar import TradingCalendar
from tests.market.market_desk import make_desk_in
from tests.orchestration.cli_project import SMALL, CliProject

SHANGHAI = """
[profiles.sample.market]
source = "files"
path = "bars/*.csv"
calendar = "XSHG"
frequency = "5min"
stamp = "end"
symbols = "all"
start = 2023-03-01
end = 2023-03-16

[profiles.sample.windows]
lookback_window = 32
predict_window = 4
max_context = 64
train = [2023-03-01, 2023-03-08]
validation = [2023-03-09, 2023-03-13]
test = [2023-03-14, 2023-03-16]
embargo = 0
"""


def bars_of(calendar: TradingCalendar, first: date, last: date, seed: int) -> pd.DataFrame:
    """Random bars on the grid, with `ends`: their end in exchange time."""
    grid = calendar.grid(first, last)
    grid = grid[grid["session"].between(pd.Timestamp(first), pd.Timestamp(last))].reset_index(drop=True)
    generator = np.random.default_rng(seed)
    close = np.round(20 * np.exp(np.cumsum(generator.normal(0, 0.002, len(grid)))), 2)
    opened = np.r_[20.0, close[:-1]]
    ends = grid["closes_at"].dt.tz_localize("UTC").dt.tz_convert(calendar.timezone).dt.strftime("%Y-%m-%d %H:%M:%S")
    high, low = np.maximum(opened, close) + 0.02, np.minimum(opened, close) - 0.02
    volume = generator.integers(100, 9_000, len(grid)) * 100
    amount = np.round(volume * close, 2)
    return pd.DataFrame(
        {"timestamps": ends, "open": opened, "high": high, "low": low, "close": close, "volume": volume}
    ).assign(amount=amount, ts=grid["ts"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_end_stamped_bars_with_a_lunch_break_from_the_file_to_the_report(tmp_path: Path) -> None:
    sections = SMALL.split("[profiles.sample.tokenizer]")[1].replace("every = 20", "every = 1")
    project = CliProject(tmp_path, SHANGHAI + "\n[profiles.sample.tokenizer]" + sections)
    calendar = TradingCalendar("XSHG", "5min")
    (tmp_path / "bars").mkdir()
    written = 0
    for seed, symbol in enumerate(("SH600001", "SH600002", "SZ000003")):
        bars = bars_of(calendar, date(2023, 3, 1), date(2023, 3, 16), seed)
        written += len(bars)
        bars.drop(columns="ts").to_csv(tmp_path / "bars" / f"{symbol}.csv", index=False)
    done = project.call("run")
    assert done.returncode == 0, done.stderr[-3000:]
    (counts,) = project.rows("SELECT sum(received) AS received, sum(kept) AS kept, sum(rejected) AS lost FROM payloads")
    assert counts == {"received": written, "kept": written, "lost": 0}
    assert project.rows("SELECT count(DISTINCT ts) AS n FROM bars WHERE session = '2023-03-14'") == [{"n": 48}]
    steps = project.rows(
        "SELECT DISTINCT f.origin::VARCHAR AS origin, f.target_ts::VARCHAR AS target FROM forecast_quantiles AS f "
        "WHERE f.step = 1 ORDER BY 1"
    )
    assert steps
    for row in steps:
        (target,) = calendar.following(np.datetime64(row["origin"]), 1)
        assert row["target"] == str(pd.Timestamp(target))
    assert project.call("report").stdout.strip().endswith("report.html")


@pytest.mark.parametrize(
    ("calendar", "frequency", "first_day"),
    [
        # 09:30–12:00 and 13:00–16:00: the third bar ends with the morning, after half an hour.
        ("XHKG", "1h", ["01:30", "02:30", "03:30", "05:00", "06:00", "07:00"]),
        # 09:30–11:30 and 13:00–15:00: 45 minutes divide neither half.
        ("XSHG", "45min", ["01:30", "02:15", "03:00", "05:00", "05:45", "06:30"]),
        # Tokyo, 09:00–11:30 and 12:30–15:00.
        ("XTKS", "1h", ["00:00", "01:00", "02:00", "03:30", "04:30", "05:30"]),
    ],
)
@pytest.mark.parametrize("stamp", ["start", "end"])
def test_a_break_that_cuts_a_bar_short(
    tmp_path: Path, calendar: str, frequency: str, first_day: list[str], stamp: str
) -> None:
    exchange = TradingCalendar(calendar, frequency)
    bars = bars_of(exchange, date(2023, 3, 14), date(2023, 3, 16), 1)
    if stamp == "start":
        starts = bars["ts"].dt.tz_localize("UTC").dt.tz_convert(exchange.timezone)
        bars["timestamps"] = starts.dt.strftime("%Y-%m-%d %H:%M:%S")
    desk = make_desk_in(tmp_path, calendar=calendar, frequency=frequency, stamp=stamp)
    done = desk.ingest_text(bars.drop(columns="ts").to_csv(index=False), "ABC.csv")
    assert (done.received, done.rejected) == (done.kept, 0)
    stored = desk.bars()
    assert stored["ts"].dt.strftime("%H:%M").tolist() == first_day * 3
    assert not any(flag.startswith("after") for flags in stored["flags"] for flag in flags)
    # Steps over the break and over the night are one bar.
    after = [exchange.following(np.datetime64(ts), 1)[0] for ts in stored["ts"][:-1]]
    assert [np.datetime64(ts, "s") for ts in stored["ts"][1:]] == after
