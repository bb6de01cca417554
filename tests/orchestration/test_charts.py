"""Charts of pages: what a run stores of them is drawn as the chart's function draws its arguments."""

import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assets.backtests.plots import expected_returns, provider_plot, signals_plot
from assets.charts import CHARTS, ChartError, _decoded, _encoded, chart_data, draw_chart
from assets.evaluation.plots import crps_by_step, pit_chart, pit_densities, skill_chart, skills, step_chart
from assets.evaluation.risk.plots import (
    exceptions,
    exceptions_chart,
    first_symbols,
    newest_chart,
    reliability,
    reliability_chart,
)
from assets.forecasting.drift import drift_chart, validation_distances
from assets.forecasting.plots import Fan, before_after_chart, calibration_chart, fan_chart
from assets.market.plots import (
    BLUE,
    actions_by_year,
    actions_picture,
    counts_picture,
    coverage_picture,
    payloads_picture,
    rows_by_day,
)
from assets.picture_files import PictureFiles, PictureLostError
from assets.plots import figure, format_dates
from assets.training.plots import MOST_SYMBOLS, most_windows, windows_plot

DAYS = np.arange("2012-05-01", "2012-05-07", dtype="datetime64[D]").astype("datetime64[s]")
LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
RANDOM = np.random.default_rng(12)
FAN = Fan(
    model="kronos", symbol="BRK/B", origin=DAYS[2], in_sample=True, past_stamps=DAYS[:3], past=RANDOM.uniform(9, 11, 3),
    targets=DAYS[3:], levels=LEVELS, quantiles=9 + LEVELS + RANDOM.uniform(0, 0.1, (3, 5)),
    actual=np.array([9.7, 9.9, np.nan]),
)  # fmt: skip
SHARES = pd.DataFrame({"level": LEVELS, "share": LEVELS**1.1})
MODELS = ["har", "har_recalibrated", "kronos"]
BOARD = pd.DataFrame(
    [
        ("crps", "random_walk", model, step, skill, skill - 0.02, np.nan)
        for model, skill in zip(MODELS, (0.01, 0.02, -0.03), strict=True)
        for step in (0, 1, 5)
    ],
    columns=["metric", "baseline", "model", "horizon", "skill", "skill_low", "skill_high"],
)
BY_STEP = pd.DataFrame([("crps", model, step, step**0.5) for model in MODELS for step in (1, 2)],
                       columns=["metric", "model", "step", "value"])  # fmt: skip
PITS = pd.DataFrame(
    {"model": np.repeat(MODELS, 40), "pit": RANDOM.uniform(size=120), "weight": 1 + RANDOM.uniform(size=120)}
)
RISK = pd.DataFrame({
    "model": ["random_walk_recalibrated", "kronos"], "measure": "var", "level": 0.05, "step": [1, 4], "n": [200, 180],
    "exceptions": [12, 8],
    "rate_low": [0.03, np.nan], "rate_high": [0.09, np.nan],
})  # fmt: skip
NEWEST = pd.DataFrame(
    [(symbol, step, measure, step / 90) for symbol in ("ÆÐ", "B") for step in (1, 4) for measure in ("var", "es")],
    columns=["symbol", "step", "measure", "value"],
)
EVENTS = pd.DataFrame({"model": "kronos_anchored_recalibrated", "measure": np.repeat(["drawdown", "touch"], 30),
                       "value": RANDOM.uniform(size=60), "event": RANDOM.uniform(size=60) < 0.5})  # fmt: skip
SIGNALS = pd.DataFrame({"model": np.repeat(MODELS, 50), "value": RANDOM.normal(0, 0.01, 150)})
WINDOWS = pd.DataFrame({"symbol": [f"S{n}" for n in range(45)], "train": range(45), "validation": 3, "test": 2})
PAYLOADS = pd.DataFrame(
    {"rows": [5, 7, 1], "fetched_at": pd.to_datetime(["2012-05-01 10:00", "2012-05-01 12:00", "2012-05-03 09:00"])}
)
ACTIONS = pd.DataFrame({"kind": ["split", "dividend"], "ex_date": [date(2005, 2, 28), date(2012, 8, 9)]})
CARD = {"scores": {"drift": {"sizes": [1, 4], "distances": [[0.1], [0.2, 0.3]]}}}
COVERAGE = pd.DataFrame([[0.5, np.nan]], index=["AAPL"], columns=pd.RangeIndex(2011, 2013, name="year"))


RANGES = pd.DataFrame({"symbol": ["A/B", "AAPL"], "first": DAYS[:2], "last": DAYS[2:4], "bars": [3, 1200]})
# By the name of the chart, its function and arguments as an asset gives them.
CALLS: dict[str, tuple[Callable[..., bytes], tuple[Any, ...]]] = {
    "actions": (actions_picture, (actions_by_year(ACTIONS),)),
    "bars_coverage": (coverage_picture, (COVERAGE, 130)),
    "before_after": (before_after_chart, ({"har": (SHARES, SHARES), "kronos": (SHARES, SHARES)},)),
    "calibration": (calibration_chart, ({"har": SHARES, "plugin": SHARES},)),
    "bars_coverage, no bars": (coverage_picture, (pd.DataFrame(), 0)),
    "counts": (counts_picture, (pd.Series([3, 40], ["bad_ohlc", "gap"], name="rows"), "Flagged bars", BLUE)),
    "drift": (drift_chart, (validation_distances(CARD, 3), DAYS[:2], np.array([0.1, 0.4]), np.array([0.3, 0.3]))),
    "drift, one origin": (drift_chart, ([0.1, 0.2], DAYS[:1], np.array([0.1]), np.array([0.3]))),
    "expected_returns, none": (signals_plot, (expected_returns(SIGNALS.assign(value=np.nan)),)),
    "expected_returns": (signals_plot, (expected_returns(SIGNALS),)),
    "fans": (fan_chart, ([FAN, replace(FAN, model="random_walk_recalibrated", in_sample=False)],)),
    "payloads": (payloads_picture, (rows_by_day(PAYLOADS), len(PAYLOADS))),
    "pit": (pit_chart, (pit_densities(PITS),)),
    "provider": (provider_plot, (RANGES, 2)),
    "provider, first of 115": (provider_plot, (RANGES, 115)),
    "provider, of an earlier version": (provider_plot, (RANGES,)),
    "reliability": (reliability_chart, (reliability(EVENTS),)),
    "risk_exceptions": (exceptions_chart, (exceptions(RISK, 0.05), 0.05)),
    "risk_newest": (newest_chart, (first_symbols(NEWEST), "har", DAYS[0], 0.05, 2)),
    "risk_newest, first of 115": (newest_chart, (first_symbols(NEWEST), "har", DAYS[0], 0.05, 115)),
    "risk_newest, of an earlier version": (newest_chart, (first_symbols(NEWEST), "har", DAYS[0], 0.05)),
    "skill": (skill_chart, (skills(BOARD),)),
    "steps": (step_chart, (crps_by_step(BY_STEP),)),
    "windows": (windows_plot, (most_windows(WINDOWS), len(WINDOWS))),
}  # fmt: skip


def test_every_chart_is_called_here() -> None:
    assert {call.partition(",")[0] for call in CALLS} == set(CHARTS)


@pytest.mark.parametrize("call", CALLS)
def test_a_chart_from_stored_data_is_that_of_the_arguments(call: str) -> None:
    draw, arguments = CALLS[call]
    data = chart_data(draw, *arguments)
    assert f'"chart":"{call.partition(",")[0]}"'.encode() in data
    assert data == chart_data(draw, *arguments)
    assert draw_chart(data) == draw(*arguments)


@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_cut_off_at_the_sides_of_a_chart(call: str) -> None:
    draw, arguments = CALLS[call]
    pixels = np.asarray(Image.open(io.BytesIO(draw(*arguments))).convert("L"))
    assert pixels[:, [0, -1]].min() == 255


@pytest.mark.parametrize("days", [1, 2, 6, 30, 130, 800, 5000, 8000])
def test_dates_below_an_axis_do_not_overlap(days: int) -> None:
    with figure(4.2, 2) as drawn:
        axes = drawn.add_subplot()
        axes.plot(DAYS[0] + np.arange(days) * np.timedelta64(1, "D"), np.arange(days), ".")
        format_dates(axes, 6, least=3)
        drawn.draw_without_rendering()
        extents = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    assert extents
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(extents))


def test_missing_and_infinite_numbers_are_drawn_as_missing_ones() -> None:
    nullable = SHARES.assign(share=pd.array([0.1, pd.NA, 0.5, 0.7, 0.9], dtype="Float64"))
    drawn = [
        draw_chart(chart_data(calibration_chart, {"har": SHARES.assign(share=own)}))
        for own in (nullable["share"], [0.1, np.nan, 0.5, 0.7, 0.9], [0.1, np.inf, 0.5, 0.7, 0.9],
                    np.array([0.1, pd.NA, 0.5, 0.7, 0.9], dtype=object))
    ]  # fmt: skip
    assert len(set(drawn)) == 1 and drawn[0] != calibration_chart({"har": SHARES})
    counts = pd.Series([3.0, np.nan], ["bad_ohlc", "gap"])
    ends = [draw_chart(chart_data(counts_picture, counts.fillna(end), "Flagged bars")) for end in (np.inf, -np.inf)]
    assert ends == [draw_chart(chart_data(counts_picture, counts, "Flagged bars"))] * 2
    ranges = RANGES.assign(last=[DAYS[2], np.datetime64("NaT")])
    assert draw_chart(chart_data(provider_plot, ranges, 2)) == provider_plot(ranges, 2)
    assert _decoded(_encoded([pd.NA, pd.NaT, 1])) == [None, pd.NaT, 1]
    assert all(np.isnan(one) for one in _decoded(json.loads(json.dumps(_encoded([np.inf, -np.inf])))))


def test_the_boxes_are_those_of_all_signals() -> None:
    from matplotlib.cbook import boxplot_stats

    for model, own in SIGNALS.groupby("model")["value"]:
        (box,) = boxplot_stats(100 * own.to_numpy(), whis=(5, 95))
        found = expected_returns(SIGNALS)[str(model)]
        assert found.tolist() == [box[name] for name in ("whislo", "q1", "med", "q3", "whishi")]


def test_the_symbols_with_the_most_windows_are_shown() -> None:
    shown = most_windows(WINDOWS)
    assert len(shown) == MOST_SYMBOLS and shown["symbol"].tolist()[:2] == ["S44", "S43"]


def test_values_keep_type_and_bits() -> None:
    values = [
        None,
        True,
        3,
        "é",
        np.float32(0.1),
        DAYS[1],
        np.array([["a", None, date(2012, 5, 1), pd.Timestamp("2012-05-01 16:00:00.1", tz="UTC")]], dtype=object),
        {1.5: (np.nan, -0.0)},
    ]
    found = _decoded(json.loads(json.dumps(_encoded(values))))
    assert repr(found) == repr(values)
    assert [type(one) for one in found] == [type(one) for one in values]
    frame = _decoded(_encoded(COVERAGE))
    pd.testing.assert_frame_equal(frame, COVERAGE, check_names=False, check_column_type=False)


def test_what_cannot_be_stored_or_drawn_is_named() -> None:
    with pytest.raises(TypeError, match="PosixPath"):
        chart_data(calibration_chart, {"har": Path("x")})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="test_what_cannot_be_stored"):
        chart_data(test_what_cannot_be_stored_or_drawn_is_named)  # type: ignore[arg-type]
    data = chart_data(calibration_chart, {"har": SHARES[["level"]]})
    with pytest.raises(ChartError, match=r"calibration.*share"):
        draw_chart(data)
    with pytest.raises(ChartError, match="os:system"):
        draw_chart(data.replace(b'"calibration"', b'"os:system"'))


def test_a_picture_is_stored_once_and_a_damaged_one_replaced(tmp_path: Path) -> None:
    files = PictureFiles(tmp_path)
    digest = files.store_chart(data := chart_data(calibration_chart, {"har": SHARES}))
    assert not files.lacks(digest)
    files.data(digest).write_bytes(data[:-9])
    assert files.lacks(digest)
    with pytest.raises(PictureLostError, match=f"{digest}.json.*damaged.*candlecast run"):
        files.make(digest)
    assert files.store_chart(data) == digest and not files.lacks(digest)
    drawn = files.make(digest)
    files.data(digest).unlink()
    assert not files.lacks(digest) and files.make(digest) == drawn
