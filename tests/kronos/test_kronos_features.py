"""Calendar features, the rule for missing volume and amount, and the normalisation."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from kronos.errors import InputError, MismatchError
from kronos.features import FEATURES, MissingVolume, complete_volume_amount, time_features
from kronos.normalisation import Normalisation, denormalise, normalise, window_statistics

Bars = NDArray[np.float32]
bars = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(2, 40), st.just(6)),
    elements=st.floats(0.125, 1e6, width=32),
)


def test_importing_the_light_modules_does_not_import_torch() -> None:
    code = (
        "import sys, kronos, kronos.normalisation, kronos.features; "
        "kronos.Normalisation; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.lists(st.datetimes(), min_size=1, max_size=50))
def test_time_features_equal_those_of_pandas(stamps: list[datetime]) -> None:
    index = pd.DatetimeIndex(np.array(stamps, dtype="datetime64[s]"))
    expected = np.stack([index.minute, index.hour, index.weekday, index.day, index.month], axis=1)
    np.testing.assert_array_equal(time_features(index), expected)


def test_timestamps_are_read_in_their_time_zone() -> None:
    index = pd.DatetimeIndex(["2024-03-08 09:30", "2024-03-11 09:30"], tz="America/New_York")
    np.testing.assert_array_equal(time_features(index)[:, 1], [9, 9])
    np.testing.assert_array_equal(time_features(pd.Series(index)), time_features(index))


def test_a_missing_timestamp_is_refused() -> None:
    with pytest.raises(InputError, match="timestamp 1"):
        time_features(pd.DatetimeIndex(["2024-01-02", None]))


def test_missing_volume_and_amount_follow_the_published_rule() -> None:
    prices = np.array([[1.0, 3.0, 1.0, 3.0]])
    np.testing.assert_array_equal(complete_volume_amount(prices)[0, 4:], [0, 0])
    np.testing.assert_array_equal(complete_volume_amount(np.c_[prices, [5.0]])[0, 4:], [5, 10])
    np.testing.assert_array_equal(complete_volume_amount(np.c_[prices, [5.0], [7.0]])[0, 4:], [5, 7])
    np.testing.assert_array_equal(complete_volume_amount(np.c_[prices, [np.nan], [np.nan]])[0, 4:], [0, 0])
    assert len(FEATURES) == complete_volume_amount(prices).shape[-1]


def with_gaps(rows: int = 12) -> NDArray[np.float64]:
    """A window (rows, 6) whose volume is missing in rows 1 and 9, its amount in row 4."""
    generator = np.random.default_rng(8)
    window = generator.uniform(20, 30, (rows, 6))
    window[:, 4] = generator.uniform(500, 900, rows)
    window[[1, 9], 4] = window[4, 5] = np.nan
    return window


def test_a_missing_volume_is_the_median_of_the_lookback() -> None:
    window = with_gaps()
    known = np.delete(window[:8, 4], 1)
    later = window.copy()
    later[8:, 4:] *= 50
    for values in (window, later):
        complete = complete_volume_amount(values, "median", lookback=8)
        np.testing.assert_array_equal(complete[[1, 9], 4], np.median(known))
        assert complete[4, 5] == window[4, 4] * window[4, :4].mean()  # an amount follows from its volume
        assert complete[1, 5] == window[1, 5]
    np.testing.assert_array_equal(complete_volume_amount(window[:, :4], "median")[:, 4:], 0)
    np.testing.assert_array_equal(
        complete_volume_amount(np.stack([window] * 2), "median", 8)[1], complete_volume_amount(window, "median", 8)
    )


def test_a_masked_volume_is_its_mean_and_changes_no_statistic() -> None:
    window = with_gaps()
    values, mean, std = Normalisation(missing_volume="mask").apply(window, 8)
    known = np.delete(window[:8, 4], 1)
    np.testing.assert_array_equal(values[[1, 9], 4], 0)
    np.testing.assert_allclose([mean[4], std[4]], [known.mean(), known.std()], rtol=1e-5)
    assert np.isfinite(values).all() and values[2, 4] != 0
    prices, _, _ = Normalisation().apply(window, 8)
    np.testing.assert_array_equal(values[:, :4], prices[:, :4])
    window[:8, 4:] = np.nan  # nothing known before the origin: nothing is read after it
    values, mean, std = Normalisation(missing_volume="mask").apply(np.stack([with_gaps(), window]), 8)
    np.testing.assert_array_equal(values[1, :, 4:], 0)
    np.testing.assert_array_equal([mean[1, 4:], std[1, 4:]], 0)
    assert values[0, 0, 4] != 0


@given(bars, st.sampled_from(["zero", "median", "mask"]), st.data())
def test_without_gaps_every_rule_is_the_published_normalisation(
    x: Bars, rule: MissingVolume, data: st.DataObject
) -> None:
    lookback = data.draw(st.integers(1, x.shape[1]))
    values, mean, std = Normalisation(missing_volume=rule).apply(x, lookback)
    np.testing.assert_array_equal([mean, std], window_statistics(x, lookback))
    np.testing.assert_array_equal(values, normalise(x, mean, std))


@given(bars, st.data())
def test_bars_after_the_lookback_change_no_statistic(x: Bars, data: st.DataObject) -> None:
    lookback = data.draw(st.integers(1, x.shape[1]))
    changed = x.copy()
    changed[:, lookback:] *= 1000
    for a, b in zip(window_statistics(x, lookback), window_statistics(changed, lookback), strict=True):
        np.testing.assert_array_equal(a, b)


@given(bars)
def test_a_batch_normalises_each_window_bit_for_bit_as_the_authors_do(x: Bars) -> None:
    mean, std = window_statistics(x, x.shape[1])
    z = normalise(x, mean, std)
    for i, window in enumerate(x):
        frame = pd.DataFrame({name: window[:, j] for j, name in enumerate(FEATURES)})
        values = frame[list(FEATURES)].values
        m, s = np.mean(values, axis=0), np.std(values, axis=0)
        np.testing.assert_array_equal(z[i], np.clip((values - m) / (s + 1e-5), -5, 5))
    assert z.dtype == mean.dtype == std.dtype == np.float32


@given(bars)
def test_denormalising_restores_unclipped_values(x: Bars) -> None:
    mean, std = window_statistics(x, x.shape[1])
    z = normalise(x, mean, std, clip=np.inf)
    np.testing.assert_allclose(denormalise(z, mean, std), x, rtol=1e-4, atol=1e-4 * float(x.max()))


def test_a_lookback_outside_the_window_is_refused() -> None:
    for lookback in (0, 6):
        with pytest.raises(InputError, match="lookback"):
            window_statistics(np.ones((5, 6)), lookback)


def test_input_with_another_normalisation_is_refused() -> None:
    with pytest.raises(MismatchError, match="the windows"):
        Normalisation().require({"clip": 3.0, "epsilon": 1e-5, "version": 1}, owner="the windows")
    Normalisation().require(Normalisation().to_dict(), owner="the windows")
    with pytest.raises(MismatchError, match=r"the windows.*median"):
        Normalisation().require(Normalisation(missing_volume="median"), owner="the windows")
    with pytest.raises(InputError, match="'mean'"):
        Normalisation(missing_volume="mean")  # type: ignore[arg-type]
