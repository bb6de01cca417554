"""Pooled windows: shares of the paths, aggregated bars, and that nothing outside a window counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from kronos import InputError, KronosPredictor
from kronos.window_pool import aggregate_bars, moved_to
from tests.kronos.kronos_pairs import random_bars


def test_a_single_window_is_the_forecast_of_the_last_bars(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(60, seed=1)
    pooled = tiny_predictor.forecast(frame, pred_len=4, sample_count=5, seed=[3], windows=[25])
    alone = tiny_predictor.forecast(frame.iloc[-25:], pred_len=4, sample_count=5, seed=[3])
    np.testing.assert_array_equal(pooled.paths, alone.paths)


def test_windows_share_the_paths_and_draw_for_themselves(tiny_predictor: KronosPredictor) -> None:
    frames = [random_bars(60, seed=1), random_bars(33, seed=2)]
    both = tiny_predictor.forecast(frames, pred_len=4, sample_count=7, seed=5, windows=[30, 20, (12, 2)])
    assert both.paths.shape == (2, 7, 4, 6) and both.tokens.shape == (2, 7, 4, 2)
    # 3, 2 and 2 paths: those of the first window are the same whatever stands beside it, also in another batch.
    first = tiny_predictor.forecast(frames[1], pred_len=4, sample_count=3, seed=5, windows=[30])
    np.testing.assert_array_equal(both.paths[1, :3], first.paths[0])
    twice = tiny_predictor.forecast(frames[0], pred_len=4, sample_count=6, seed=5, windows=[20, 20])
    assert not np.array_equal(twice.paths[0, :3], twice.paths[0, 3:])


def test_aggregated_bars_end_at_the_origin_and_reach_further_back(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(31, seed=4)
    bars = aggregate_bars(frame.to_numpy(dtype=np.float32), 3)
    last = frame.iloc[-3:]
    assert bars.shape == (10, 6)
    expected = [last["open"].iloc[0], last["high"].max(), last["low"].min(), last["close"].iloc[-1]]
    np.testing.assert_allclose(bars[-1], [*expected, last["volume"].sum(), last["amount"].sum()], rtol=1e-6)

    def paths_of(history: pd.DataFrame) -> NDArray[np.float32]:
        return tiny_predictor.forecast(history, pred_len=7, sample_count=4, seed=[1], windows=[(8, 3)]).paths

    paths = paths_of(frame)
    further, beyond = frame.copy(), frame.copy()
    further.iloc[-20, :4] *= 1.01  # in the last 8 × 3 bars, not in the last 8
    beyond.iloc[-25, :4] *= 1.01
    assert not np.array_equal(paths_of(further), paths)
    np.testing.assert_array_equal(paths_of(beyond), paths)


def test_moved_paths_are_valid_bars_that_meet_the_aggregated_closes() -> None:
    fine = np.stack([random_bars(7, seed=seed).to_numpy(dtype=np.float32) for seed in range(5)])[None]
    aggregated = np.stack([random_bars(2, seed=seed).to_numpy(dtype=np.float32) for seed in range(5, 10)])[None]
    moved = moved_to(fine, aggregated, 3)
    prices, volume = moved[..., :4], moved[..., 4]
    np.testing.assert_allclose(prices[:, :, [2, 5], 3], aggregated[..., 3], rtol=1e-5)
    np.testing.assert_allclose(volume[:, :, 3:6].sum(axis=2), aggregated[:, :, 1, 4], rtol=1e-5)
    # After the last aggregated bar the path takes its own steps from there.
    np.testing.assert_allclose(prices[:, :, 6] / prices[:, :, 5, 3:], fine[:, :, 6, :4] / fine[:, :, 5, 3:4], rtol=1e-5)
    rounding = 1 + 1e-6
    assert (prices[..., 1:2] * rounding >= prices).all() and (prices[..., 2:3] <= prices * rounding).all()


@pytest.mark.parametrize(
    ("windows", "named"),
    [
        ([(20, 9)], "scale.*pred_len=4"),
        ([1], "bars.*max_context=512"),
        ([600], "bars.*max_context=512"),
        ([(20, 0)], "scale"),
        ([10] * 6, "6 windows.*sample_count=5"),
        ([], "0 windows"),
        ([(20, 4)], "series 0: 7 bars"),
    ],
)
def test_a_window_that_cannot_be_used_is_named(
    tiny_predictor: KronosPredictor, windows: list[int | tuple[int, int]], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        tiny_predictor.forecast(random_bars(7), pred_len=4, sample_count=5, windows=windows)
