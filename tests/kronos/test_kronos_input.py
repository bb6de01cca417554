"""Invalid input is refused with an error that names the series and the field; unusual valid input works."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kronos import InputError, Kronos, KronosPredictor, KronosTokenizer, MismatchError, Normalisation, ScaleWarning
from tests.kronos.kronos_pairs import TINY, TINY_TOKENIZER, Pair, random_bars, random_stamps


def with_value(column: str, row: int, value: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        frame.loc[frame.index[row], column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (with_value("close", 3, np.nan), ("series 1", "close", "row 3")),
        (with_value("high", 0, np.inf), ("series 1", "high", "row 0")),
        (with_value("volume", 2, np.inf), ("series 1", "volume", "row 2")),
        (lambda frame: frame.drop(columns="open"), ("series 1", "open")),
        (lambda frame: frame.assign(low="cheap"), ("series 1", "low")),
        (lambda frame: frame.iloc[::-1], ("series 1", "x_timestamp", "before")),
        (lambda frame: frame.iloc[[0, 0, 1]], ("series 1", "x_timestamp", "repeats")),
        (lambda frame: frame.iloc[:0], ("series 1", "row")),
        (lambda frame: frame.reset_index(drop=True), ("series 1", "x_timestamp", "numbers")),
        (lambda frame: frame.reset_index(drop=True).to_numpy(), ("series 1", "DataFrame")),
        (lambda frame: frame * 1e30, ("series 1", "float32")),
        (lambda frame: frame.assign(amount=np.tile([1e10, 1.8e19], 5)), ("series 1", "amount", "row 1", "float32")),
        (lambda frame: pd.concat([frame, frame[["close"]]], axis=1), ("series 1", "duplicate", "close")),
        (with_value("low", 4, 0.0), ("series 1", "low in row 4 is 0.0", "project=False")),
        (with_value("open", 4, -3.0), ("series 1", "open in row 4 is -3.0", "0")),
        (with_value("volume", 5, -1.0), ("series 1", "volume in row 5 is -1.0", "0")),
        (with_value("amount", 6, -1.0), ("series 1", "amount in row 6 is -1.0", "0")),
        (with_value("low", 7, 1e6), ("series 1", "high in row 7", "low")),
    ],
)
def test_an_invalid_frame_is_refused_by_series_and_field(
    tiny_predictor: KronosPredictor, change: Callable[[pd.DataFrame], pd.DataFrame], facts: tuple[str, ...]
) -> None:
    good = random_bars(10)
    bad = change(good)
    index: Any = getattr(bad, "index", good.index)
    future = pd.bdate_range("2021-01-01", periods=2)
    with pytest.raises(InputError) as caught:
        tiny_predictor.predict_batch([good, bad], [pd.DatetimeIndex(good.index), index], [future] * 2, 2)
    for fact in facts:
        assert fact in str(caught.value)


def test_invalid_arguments_are_refused_by_name(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(10)
    for wrong, fact in (
        ({"pred_len": 0}, "pred_len=0"),
        ({"pred_len": 512}, "pred_len=512 .*max_context=512"),
        ({"pred_len": 2, "sample_count": 0}, "sample_count=0"),
        ({"pred_len": 2, "T": -1.0}, r"T=-1\.0"),
        ({}, "pred_len"),
        ({"pred_len": 2, "y_timestamp": frame.index[:2]}, "not after"),
        ({"pred_len": 3, "y_timestamp": pd.bdate_range("2021-01-01", periods=2)}, "y_timestamp"),
        ({"pred_len": 2, "x_timestamp": frame.index[:4]}, "10 rows"),
        ({"pred_len": 2.0}, r"pred_len=2\.0"),
        ({"pred_len": 2, "sample_count": 2.0}, r"sample_count=2\.0"),
        ({"pred_len": 2, "top_k": 2.5}, r"top_k=2\.5"),
        ({"pred_len": 2, "T": "hot"}, "T='hot'"),
        ({"pred_len": 2, "top_p": "all"}, "top_p='all'"),
        ({"pred_len": 2, "seed": 2**300}, rf"seed={2**300} .*2\*\*256"),
        ({"pred_len": 2, "seed": -1}, "seed=-1"),
        ({"pred_len": 2, "seed": 1.5}, r"seed=1\.5"),
        ({"pred_len": 2, "seed": "a"}, "seed='a'"),
        ({"pred_len": 2, "seed": [-1]}, "series 0: seed=-1"),
        ({"pred_len": 2, "seed": [0.5]}, r"series 0: seed=0\.5"),
    ):
        with pytest.raises(InputError, match=fact):
            tiny_predictor.predict(frame, **wrong)
    with pytest.raises(TypeError, match="sed"):
        tiny_predictor.predict(frame, pred_len=2, sed=1)  # type: ignore[call-arg]


def test_invalid_timestamps_are_refused(tiny_predictor: KronosPredictor) -> None:
    frame, future = random_bars(10), pd.bdate_range("2021-01-01", periods=2)
    index = pd.DatetimeIndex(frame.index)
    zoned = index.tz_localize("UTC")
    cases: list[tuple[Any, Any, str]] = [
        (zoned, future, "series 0: x_timestamp .*time zone, y_timestamp .*tz_localize"),
        (index, future.tz_localize("UTC"), "series 0: y_timestamp .*time zone, x_timestamp "),
        (index.to_frame(), future, "series 0: x_timestamp .*DataFrame"),
        (index[0], future, "series 0: x_timestamp .*Timestamp"),
        (index, future.to_frame(), "series 0: y_timestamp .*DataFrame"),
        (index, future[0], "series 0: y_timestamp .*Timestamp"),
        (index, "2021-01-01", "series 0: y_timestamp .*str"),
    ]
    for x, y, facts in cases:
        for pred_len in (2, None):
            with pytest.raises(InputError, match=facts):
                tiny_predictor.predict(frame, x, y, pred_len)
    with pytest.raises(InputError, match="y_timestamp_list has 2 entries for 1 series"):
        tiny_predictor.predict_batch([frame], [index], [future, future])
    with pytest.raises(InputError, match=r"x_timestamp_list .*Timestamp"):
        tiny_predictor.predict_batch([frame], index[0], [future])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"series 0: .*DataFrame.*ndarray"):
        tiny_predictor.predict(frame.to_numpy(), pred_len=2)  # type: ignore[arg-type]


def test_invalid_bars_are_forecast_as_they_are_without_projection(tiny: Pair) -> None:
    theirs, ours = tiny.predictors()
    frame = random_bars(30)
    frame[["open", "high", "low", "close"]] -= 100.5
    frame["volume"] -= frame["volume"].mean()
    frame[["high", "low"]] = frame[["low", "high"]].to_numpy()
    stamps = pd.Series(pd.bdate_range(frame.index[0], periods=34))
    expected = theirs.predict(frame, stamps[:30], stamps[30:], 4, top_k=1, verbose=False)
    actual = ours.predict(frame, stamps[:30], stamps[30:], 4, top_k=1, project=False)
    np.testing.assert_allclose(actual.to_numpy(), expected.to_numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="project=False"):
        ours.predict(frame, stamps[:30], stamps[30:], 4)


@pytest.mark.parametrize("rows", [2, 40, 300])
def test_the_largest_accepted_amounts_forecast_finitely(tiny_predictor: KronosPredictor, rows: int) -> None:
    largest = (np.finfo(np.float32).max / (2 * rows)) ** 0.5
    frame = random_bars(rows).assign(amount=np.tile([1e10, 0.999 * largest], rows // 2))
    assert np.isfinite(tiny_predictor.predict_paths(frame, pred_len=3, sample_count=3, seed=1)).all()
    with pytest.raises(InputError, match="amount"):
        tiny_predictor.predict_paths(frame.assign(amount=1.001 * largest), pred_len=3)


def test_invalid_arrays_are_refused(tiny_predictor: KronosPredictor) -> None:
    bars, past, future = random_bars(10).to_numpy(), random_stamps(10), random_stamps(2)
    late = past.copy()
    late[4, 1] = 24
    for values, stamps, facts in (
        (bars[:, :5], past, r"series X: bars .*6.*\(10, 5\)"),
        (bars, past[:9], "series X: x_stamps"),
        (bars, late, "series X: x_stamps hour in row 4"),
    ):
        with pytest.raises(InputError, match=facts):
            tiny_predictor.sample_paths([values], [stamps], [future], 2, seeds=[1], names=["X"])
    with pytest.raises(InputError, match="seeds has 2 entries for 1 series"):
        tiny_predictor.sample_paths([bars], [past], [future], 2, seeds=[1, 2])
    with pytest.raises(InputError, match="series X: seed=-1"):
        tiny_predictor.sample_paths([bars], [past], [future], 2, seeds=[-1], names=["X"])
    bars = bars * (np.arange(10) != 3)[:, None]
    with pytest.raises(InputError, match="series X: open in row 3"):
        tiny_predictor.sample_paths([bars], [past], [future], 2, seeds=[1], names=["X"])
    assert np.isfinite(tiny_predictor.sample_paths([bars], [past], [future], 2, seeds=[1], project=False).paths).all()


def test_models_that_do_not_belong_together_are_refused(tiny_model: Kronos) -> None:
    other = KronosTokenizer(config=replace(TINY_TOKENIZER, s1_bits=7, s2_bits=5))
    with pytest.raises(MismatchError, match=r"7/5.*6/6"):
        KronosPredictor(tiny_model, other, device="cpu")
    model, tokenizer = Kronos(config=TINY), KronosTokenizer(config=TINY_TOKENIZER)
    model.normalisation = Normalisation(clip=3.0)
    with pytest.raises(MismatchError, match="the predictor"):
        KronosPredictor(model, tokenizer, device="cpu", clip=5)
    KronosPredictor(model, tokenizer, device="cpu", clip=3)
    with pytest.raises(InputError, match=r"max_context=64\.0"):
        KronosPredictor(model, tokenizer, device="cpu", clip=3, max_context=64.0)  # type: ignore[arg-type]


def test_missing_volume_follows_the_rule_of_the_checkpoints(tmp_path: Path, tiny_tokenizer: KronosTokenizer) -> None:
    model, frame = Kronos(config=TINY), random_bars(30)
    gaps = frame.copy()
    gaps.loc[gaps.index[3:7], ["volume", "amount"]] = np.nan
    folder = model.save_pretrained(tmp_path / "model", normalisation=Normalisation(missing_volume="median"))
    loaded = Kronos.from_pretrained(folder)
    predictor = KronosPredictor(loaded, tiny_tokenizer, device="cpu")
    filled = gaps.fillna(gaps.median())
    expected = predictor.predict_paths(filled, pred_len=3, sample_count=4, seed=1)
    np.testing.assert_array_equal(predictor.predict_paths(gaps, pred_len=3, sample_count=4, seed=1), expected)
    with pytest.raises(MismatchError, match=r"the predictor .*median.*mask"):
        KronosPredictor(loaded, tiny_tokenizer, device="cpu", missing_volume="mask")
    published = KronosPredictor(model, tiny_tokenizer, device="cpu")
    zeros = published.predict_paths(gaps.fillna(0.0), pred_len=3, sample_count=4, seed=1)
    np.testing.assert_array_equal(published.predict_paths(gaps, pred_len=3, sample_count=4, seed=1), zeros)
    masked = KronosPredictor(model, tiny_tokenizer, device="cpu", missing_volume="mask")
    paths = masked.predict_paths(gaps.drop(columns="amount"), pred_len=3, sample_count=4, seed=1)
    assert np.isfinite(paths).all() and not np.array_equal(paths, zeros)


@pytest.mark.parametrize("clip", [0, -1, np.nan, np.inf, "5", None])
def test_a_clip_that_is_not_finite_and_positive_is_refused(
    tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, clip: object
) -> None:
    with pytest.raises(InputError, match="clip="):
        KronosPredictor(tiny_model, tiny_tokenizer, device="cpu", clip=clip)  # type: ignore[arg-type]


def test_columns_of_several_levels_are_refused_with_the_selection_to_use(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(10)
    two = pd.concat({"AAPL": frame, "MSFT": frame}, axis=1)
    for columns, level in (
        (two.swaplevel(axis=1).rename_axis(["Price", "Ticker"], axis=1), "'Ticker'"),
        (two.rename_axis(["Ticker", "Price"], axis=1), "'Ticker'"),
        (two, "0"),
        (two.swaplevel(axis=1), "1"),
    ):
        facts = rf"series 0: .*2 levels, .*AAPL, MSFT.*df\.xs\('AAPL', axis=1, level={level}\)"
        with pytest.raises(InputError, match=facts):
            tiny_predictor.predict(columns, pred_len=2)
        one: Any = columns.xs("AAPL", axis=1, level=level.strip("'") if "T" in level else int(level))
        pd.testing.assert_frame_equal(
            tiny_predictor.predict(one, pred_len=2, seed=1), tiny_predictor.predict(frame, pred_len=2, seed=1)
        )


def test_prices_too_small_for_the_published_epsilon_warn_once(tiny_predictor: KronosPredictor) -> None:
    frame, constant = random_bars(20), random_bars(20)
    prices = ["open", "high", "low", "close"]
    small = frame.copy()
    small[prices] *= 1e-10
    constant[prices] = 0.1
    with pytest.warns(ScaleWarning, match="series 1, 2: .*1e-05.*multiply them by 1e") as caught:
        tiny_predictor.predict_batch([frame, small, small, constant], pred_len=2)
    assert sum(issubclass(warning.category, ScaleWarning) for warning in caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScaleWarning)
        tiny_predictor.predict_batch([frame, constant], pred_len=2)


def test_series_without_variance_or_volume_forecast_finitely(tiny_predictor: KronosPredictor) -> None:
    constant = pd.DataFrame({name: np.full(30, 7.25) for name in ("open", "high", "low", "close")})
    constant.index = pd.bdate_range("2024-01-01", periods=30)
    for frame in (constant, constant.assign(volume=0.0), constant.assign(volume=3e9, amount=0.0)):
        paths = tiny_predictor.predict_paths(frame, pred_len=3, sample_count=2, seed=1)
        assert np.isfinite(paths).all()
        assert np.abs(paths[..., :4] / 7.25 - 1).max() < 1e-2


def test_a_forecast_of_no_series_is_empty(tiny_predictor: KronosPredictor) -> None:
    assert tiny_predictor.predict_batch([], pred_len=3) == []
    assert tiny_predictor.sample_paths([], [], [], 3, seeds=[]).paths.shape == (0, 30, 3, 6)


def test_none_switches_top_k_and_top_p_off(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(10)
    a, b = (tiny_predictor.predict(frame, pred_len=2, top_k=k, top_p=p, seed=1) for k, p in ((None, None), (0, 1.0)))
    pd.testing.assert_frame_equal(a, b)


def test_the_smallest_temperatures_are_greedy(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(20)
    greedy, coldest = (tiny_predictor.predict(frame, pred_len=3, T=T, top_p=1.0, seed=1) for T in (0.0, 1e-40))
    pd.testing.assert_frame_equal(greedy, coldest)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_small_numpy_integers_are_accepted(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(20)
    plain = tiny_predictor.predict(frame, pred_len=3, sample_count=100, seed=1)
    small = tiny_predictor.predict(frame, pred_len=np.int8(3), sample_count=np.int8(100), seed=1)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(plain, small)


def test_frames_and_weights_of_the_caller_do_not_change(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(10)
    original = frame.copy()
    before = {name: value.clone() for name, value in tiny_predictor.model.state_dict().items()}
    tiny_predictor.predict(frame, pred_len=2)
    pd.testing.assert_frame_equal(frame, original)
    assert all(torch.equal(before[name], value) for name, value in tiny_predictor.model.state_dict().items())
