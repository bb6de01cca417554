"""The picture of a forecast: what is drawn for each kind of forecast, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from kronos import InputError, KronosPredictor, PathResult, plot_forecast
from tests.kronos.kronos_pairs import random_bars


@pytest.fixture(scope="module")
def forecast(tiny_predictor: KronosPredictor) -> PathResult:
    return tiny_predictor.forecast(random_bars(30), pred_len=5, sample_count=40, seed=1)


def test_paths_are_a_fan_of_their_quantiles_from_the_last_close(forecast: PathResult, tmp_path: Path) -> None:
    history = random_bars(30)
    picture = plot_forecast(history, forecast, actual=random_bars(33).iloc[30:], past_bars=20, intervals=(0.8,))
    prices, volume = picture.axes
    lines = {str(line.get_label()): line for line in prices.lines}
    median = np.asarray(lines["median"].get_ydata(), dtype=float)
    expected = np.r_[history["close"].iloc[-1], np.median(forecast.paths[0, :, :, 3], axis=0)]
    np.testing.assert_allclose(median, expected, rtol=1e-6)
    band = next(one for one in prices.collections if str(one.get_label()).startswith("80"))
    corners = band.get_paths()[0].vertices
    last = np.asarray(corners)[np.asarray(corners)[:, 0] == 5, 1]
    ends = np.quantile(forecast.paths[0, :, -1, 3].astype(float), [0.1, 0.9], method="median_unbiased")
    np.testing.assert_allclose([last.min(), last.max()], ends, rtol=1e-6)
    assert len(np.asarray(lines["actual close"].get_ydata())) == 4
    assert len(volume.patches) == 20 + 5
    picture.savefig(tmp_path / "fan.png")
    assert (tmp_path / "fan.png").stat().st_size > 10_000


def test_one_path_of_bars_is_drawn_as_candles_and_closes_as_a_fan(tiny_predictor: KronosPredictor) -> None:
    history = random_bars(30).drop(columns=["volume", "amount"])
    mean = tiny_predictor.predict(history, pred_len=5, seed=1)
    (prices,) = plot_forecast(history, mean).axes  # no volume, no panel
    bodies = [one for one in prices.collections if isinstance(one, PolyCollection) and one.get_label() == "forecast"]
    assert len(bodies) == 1 and len(bodies[0].get_paths()) == 5
    (closes,) = plot_forecast(history, np.full((9, 5), 100.0) + np.arange(9)[:, None]).axes
    assert "median" in {line.get_label() for line in closes.lines}


def test_a_forecast_that_cannot_be_drawn_is_refused(forecast: PathResult) -> None:
    history = random_bars(30)
    for wrong, options, named in (
        (forecast.paths, {}, r"\(1, 40, 5, 6\)"),
        (forecast, {"series": 1}, "series=1"),
        (forecast, {"intervals": (90,)}, "intervals"),
        (forecast, {"y_timestamp": history.index[:3]}, "3 entries for 5 steps"),
        (forecast, {"actual": random_bars(6)}, "6 bars for 5 steps"),
    ):
        with pytest.raises(InputError, match=named):
            plot_forecast(history, wrong, **options)


def test_matplotlib_is_imported_with_the_first_picture_alone() -> None:
    code = "import sys; from kronos import plot_forecast; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
