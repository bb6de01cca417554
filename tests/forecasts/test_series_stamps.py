"""Timestamps of any series: frequencies, gaps, zones, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from assets.forecasting.series.stamps import following, frequency_text, infer_frequency, season_of
from assets.forecasting.series_forecast import predict
from resources.errors import CandlecastError

pytestmark = pytest.mark.filterwarnings("ignore::assets.forecasting.series_forecast.SeriesWarning")


def naive(stamps: object, **options: object) -> pd.DataFrame:
    frame = pd.DataFrame({"timestamp": stamps})
    frame["value"] = np.arange(len(frame), dtype=float)
    return predict(frame, horizon=2, model="naive", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frequency", "season"),
    [("15min", 96), ("h", 24), ("D", 7), ("B", 5), ("W-WED", 52), ("MS", 12), ("ME", 12), ("QE-MAR", 4), ("YS-JAN", 1)],
)
def test_a_frequency_is_inferred_though_rows_are_missing(frequency: str, season: int) -> None:
    stamps = pd.date_range("2021-03-01 00:00", periods=40, freq=frequency)
    found = infer_frequency(stamps.delete([7, 8, 21]))
    assert found is not None
    assert (frequency_text(found), season_of(found)) == (frequency, season)
    assert list(following(stamps[-1], found, 2)) == list(pd.date_range(stamps[-1], periods=3, freq=frequency)[1:])


def test_whole_numbers_are_timestamps() -> None:
    assert naive([1990, 1995, 2000, 2010, 2015])["timestamp"].tolist() == [2020, 2025]


def test_irregular_timestamps_are_refused_unless_resampled_by_name() -> None:
    minutes = np.cumsum(np.random.default_rng(3).uniform(3, 40, 200))
    stamps = pd.Timestamp("2022-05-05") + pd.to_timedelta(minutes, unit="min")
    with pytest.raises(CandlecastError, match=r"--frequency.*--resample"):
        naive(stamps)
    with pytest.raises(CandlecastError, match=str(stamps[1])):
        naive(stamps, frequency="h")
    made = naive(stamps, frequency="h", resample="last")
    assert made["timestamp"].tolist() == list(pd.date_range(stamps[-1].floor("h"), periods=3, freq="h")[1:])
    assert (made["0.5"] == 199).all()
    assert any("--resample last" in note for note in made.attrs["notes"])


@pytest.mark.parametrize("change", ["2021-03-27", "2021-10-30"])
def test_local_times_pass_a_change_of_the_clock(change: str) -> None:
    zone = "Europe/Madrid"
    aware = pd.date_range(change, periods=60, freq="h", tz=zone)
    after = [one.isoformat() for one in pd.date_range(aware[-1], periods=3, freq="h")[1:]]
    for stamps in (aware, aware.map(str), aware.tz_localize(None), aware.tz_localize(None).map(str)):
        made = naive(list(stamps), timezone=zone)
        assert [one.isoformat() for one in made["timestamp"]] == after
    utc = naive(list(aware.map(str)))
    assert utc["timestamp"].tolist() == list(pd.date_range(aware[-1], periods=3, freq="h")[1:].tz_convert("UTC"))
    assert any("--timezone" in note for note in utc.attrs["notes"])
    with pytest.raises(CandlecastError, match="--timezone"):
        # Hours that are there twice, or one that is missing: not silently taken for an hour's grid.
        naive(aware.tz_localize(None)) if change > "2021-06" else naive(list(aware.map(str)), timezone="Mars/Phobos")


def test_days_of_a_zone_are_days_of_its_calendar() -> None:
    days = pd.date_range("2021-03-01", periods=27, freq="D", tz="Europe/Madrid")
    assert [str(one) for one in naive(days.map(str), timezone="Europe/Madrid")["timestamp"]] == [
        "2021-03-28 00:00:00+01:00",
        "2021-03-29 00:00:00+02:00",
    ]


DAYS = pd.date_range("2018-01-20", periods=20, freq="D")
SECONDS = DAYS.as_unit("s").asi8
QUARTERS = pd.period_range("2017Q2", periods=9, freq="Q")
FORMS: dict[str, tuple[object, str | None, str]] = {
    "joined numbers": (DAYS.strftime("%Y%m%d").astype(int), None, "2018-02-09"),
    "joined months": ([201711, 201712, 201801, 201802], None, "2018-03-01"),
    "joined minutes": (DAYS.strftime("%Y%m%d0930"), None, "2018-02-09 09:30"),
    "seconds": (SECONDS, None, "2018-02-09 00:00+00:00"),
    "milliseconds as text": (pd.Series(SECONDS * 1000).astype(str), None, "2018-02-09 00:00+00:00"),
    "nanoseconds": (SECONDS * 10**9, None, "2018-02-09 00:00+00:00"),
    "parts of seconds": ([f"{one}.25" for one in SECONDS], None, "2018-02-09 00:00:00.25+00:00"),
    "quarters": ([str(one) for one in QUARTERS], None, "2019-07-01"),
    "quarters first": ([f"Q{one.quarter} {one.year}" for one in QUARTERS], None, "2019-07-01"),
    "weeks": ([f"2018-W{week:02}" for week in range(3, 12)], None, "2018-03-19"),
    "months": ([f"2018-{month:02}" for month in range(1, 12)], None, "2018-12-01"),
    "a name of UTC": (DAYS.strftime("%Y-%m-%d %H:%M UTC"), None, "2018-02-09 00:00+00:00"),
    "days of Excel": ([43120 + n for n in range(20)], "excel", "2018-02-09"),
    "hours of Excel": ([43120 + n / 24 for n in range(20)], "excel", "2018-01-20 20:00"),
    "month first": (DAYS.strftime("%m/%d/%Y"), "%m/%d/%Y", "2018-02-09"),
}


@pytest.mark.parametrize("name", FORMS)
def test_dates_are_read_as_they_are_meant(name: str) -> None:
    stamps, date_format, following = FORMS[name]
    made = naive(list(stamps), date_format=date_format)  # type: ignore[call-overload]
    assert made["timestamp"].iloc[0] == pd.Timestamp(following)


@pytest.mark.parametrize(
    ("cells", "facts"),
    [
        ([43120, 43121, 43122], ["row 1", "--date-format excel", "--date-format number"]),
        ([43120.5, 43121.5, 43122.5], ["row 1", "--date-format excel"]),
        (["13/02/2018", "14/02/2018", "15/02/2018"], ["row 1", "--date-format '%d/%m/%Y',"]),
        (["05/02/2018", "06/02/2018", "07/02/2018"], ["row 1", "'%d/%m/%Y' or '%m/%d/%Y'"]),
        (["1", "2", "", "4"], ["row 3", "empty", "--timestamp"]),
        ([1.5, 2.5, 3.5], ["row 1", "1.5", "--date-format"]),
        ([10**18 * 9 + 9 * 10**17, 10**18 * 9 + 9 * 10**17 + 1], ["timestamp"]),
    ],
)
def test_numbers_and_dates_that_can_be_read_in_two_ways_are_refused(cells: list[object], facts: list[str]) -> None:
    with pytest.raises(CandlecastError) as refused:
        naive(cells)
    assert all(fact in str(refused.value) for fact in facts)


def test_a_directive_that_does_not_exist_and_a_stray_cell_are_named() -> None:
    with pytest.raises(CandlecastError, match="--date-format %d:%Q"):
        naive(["1:2", "2:2", "3:2"], date_format="%d:%Q")
    with pytest.raises(CandlecastError, match="row 20: '20180230' is not a timestamp"):
        naive([*DAYS[:-1].strftime("%Y%m%d"), "20180230"])
    assert naive([43120, 43121, 43122], date_format="number")["timestamp"].tolist() == [43123, 43124]
    made = naive(list(SECONDS))
    assert any("seconds since 1970" in note for note in made.attrs["notes"])


@pytest.mark.parametrize("cells", [["05/03/2021", "06/03/2021", "07/03/2021"], ["5 Mar", "6 Mar", "7 Mar"]])
def test_dates_that_can_be_read_in_two_ways_are_refused_with_the_option(cells: list[str]) -> None:
    with pytest.raises(CandlecastError, match=r"row 1.*--date-format"):
        naive(cells)


def test_dates_of_a_stated_format_are_read() -> None:
    cells = ["05/03/2021", "06/03/2021", "07/03/2021"]
    assert naive(cells, date_format="%d/%m/%Y")["timestamp"].tolist()[0] == pd.Timestamp("2021-03-08")


def test_timestamps_may_be_the_index() -> None:
    indexed = pd.DataFrame({"value": [1.0, 2, 4]}, index=pd.date_range("2021-05-03 16:00", periods=3, freq="D"))
    made = predict(indexed, horizon=1, model="naive")
    assert (made["timestamp"].tolist(), made["0.5"].tolist()) == ([pd.Timestamp("2021-05-06 16:00")], [4.0])


def test_a_series_of_another_frequency_is_not_stretched_to_that_of_the_others() -> None:
    hours, days = pd.date_range("2021-05-03", periods=99, freq="h"), pd.date_range("2021-05-03", periods=9, freq="D")
    frame = pd.concat(
        [pd.DataFrame({"id": n, "timestamp": s}) for n, s in {"a": hours, "b": hours, "slow": days}.items()]
    )
    made = predict(frame.assign(value=1.0), horizon=1, model="naive")
    assert set(made["id"]) == {"a", "b"} and "--frequency" in made.attrs["rejected"]["slow"]
