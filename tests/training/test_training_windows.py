"""Training windows contain no future bars, and their counts and hash describe them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.forecasting.chronos2.forecaster import OtherSymbols
from assets.market.history import CLOSE, PRICES, BarHistory
from assets.training.data.dataset import Augmentation, WindowArrays, write_arrays
from assets.training.data.histories import training_market
from assets.training.data.splits import SPLITS, WindowShape, origin_rows, split_ranges, window_starts
from assets.training.data.windows import WindowSet, build_windows, digest_of_arrays, sufficiency, volatility_regimes
from kronos.normalisation import Normalisation, window_statistics
from resources.errors import CandlecastError
from resources.settings import FitSettings, WindowSettings
from tests.training.training_setup import (
    CHRONOS,
    CUTOFF,
    WINDOWS,
    all_histories,
    filled_home,
    sample_rows,
    small_settings,
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BarHistory]:
    _, warehouse = filled_home(tmp_path_factory.mktemp("windows"))
    return all_histories(warehouse)


def write_windows(folder: Path, windows: WindowSet) -> WindowArrays:
    write_arrays(folder, windows.arrays, dict(windows.manifest))
    return WindowArrays(folder)


@given(
    lookback=st.integers(2, 30),
    horizon=st.integers(1, 30),
    embargo=st.integers(0, 10),
    gaps=st.lists(st.integers(1, 5), min_size=200, max_size=300),
    cuts=st.tuples(st.integers(60, 200), st.integers(20, 120)),
)
def test_no_window_shares_a_bar_with_a_window_of_another_range(
    lookback: int, horizon: int, embargo: int, gaps: list[int], cuts: tuple[int, int]
) -> None:
    day = np.datetime64("2000-01-03", "s") + np.cumsum([0, *gaps]) * np.timedelta64(86_400, "s")
    first = date(2000, 1, 1)
    train_end, validation_end = first + timedelta(cuts[0]), first + timedelta(sum(cuts))
    settings = WindowSettings(
        lookback_window=lookback,
        predict_window=horizon,
        max_context=64,
        embargo=embargo,
        train=(first, train_end),
        validation=(train_end + timedelta(1), validation_end),
        test=(validation_end + timedelta(1), date(2010, 1, 1)),
    )
    shape = WindowShape(lookback, horizon)
    spans = split_ranges(settings, day.astype("datetime64[D]"))
    rows = {split: window_starts(day, spans[split], shape) for split in SPLITS}
    used = {split: {int(r) + k for r in rows[split] for k in range(shape.length)} for split in SPLITS}
    targets = {split: {int(r) + k for r in rows[split] for k in range(lookback, shape.length)} for split in SPLITS}
    for number, split in enumerate(SPLITS[:-1]):
        later = SPLITS[number + 1]
        assert not used[split] & used[later]
        if rows[split].size and rows[later].size:
            assert min(targets[later]) - max(used[split]) > horizon
    for split in SPLITS:
        span = getattr(settings, split)
        days = day[sorted(used[split])].astype("datetime64[D]")
        assert not len(days) or (days[0] >= np.datetime64(span[0]) and days[-1] <= np.datetime64(span[1]))


def test_the_embargo_leaves_out_sessions_before_a_range(real: dict[str, BarHistory]) -> None:
    found = build_windows(real, WINDOWS)
    sessions = real["AAPL"].stamps.astype("datetime64[D]")
    skipped = sessions[
        (sessions >= np.datetime64("2003-01-01")) & (sessions < np.datetime64(found.ranges["validation"].first))
    ]
    assert len(skipped) == WINDOWS.embargo


def test_bars_after_the_cutoff_change_no_hash_and_no_array(real: dict[str, BarHistory]) -> None:
    later = {}
    for name, history in real.items():
        quoted, growth = history.quoted.copy(), history.growth.copy()
        after = history.stamps.astype("datetime64[D]") > np.datetime64(CUTOFF)
        quoted[after] *= 3.7
        growth[after] *= 2.0
        later[name] = replace(history, quoted=quoted, growth=growth)
    assert after.any()
    one, other = build_windows(real, WINDOWS), build_windows(later, WINDOWS)
    assert one.digest == other.digest
    assert all(np.array_equal(one.arrays[name], other.arrays[name], equal_nan=name == "bars") for name in one.arrays)


def test_a_bar_before_the_cutoff_changes_the_hash(real: dict[str, BarHistory]) -> None:
    history = real["IBM"]
    quoted = history.quoted.copy()
    quoted[np.searchsorted(history.stamps, np.datetime64("2003-12-30")), CLOSE] += 0.01
    changed = {**real, "IBM": replace(history, quoted=quoted)}
    assert build_windows(changed, WINDOWS).digest != build_windows(real, WINDOWS).digest


def test_adjustment_factors_and_the_shape_of_windows_change_the_hash(real: dict[str, BarHistory]) -> None:
    """The same quoted bars with another dividend or split, and the same bars cut into other windows."""
    ibm, digest = real["IBM"], build_windows(real, WINDOWS).digest
    ex_date = np.searchsorted(ibm.stamps, np.datetime64("2003-02-06"))
    growth, shares = ibm.growth.copy(), ibm.shares.copy()
    growth[ex_date:] *= 1.001
    shares[ex_date:] *= 2.0
    changed = [
        build_windows({**real, "IBM": replace(ibm, growth=growth)}, WINDOWS).digest,
        build_windows({**real, "IBM": replace(ibm, shares=shares)}, WINDOWS).digest,
        build_windows(real, WINDOWS.model_copy(update={"lookback_window": 31, "predict_window": 6})).digest,
        build_windows(real, WINDOWS.model_copy(update={"embargo": WINDOWS.embargo + 1})).digest,
    ]
    assert len({digest, *changed}) == len(changed) + 1


def test_every_array_and_the_manifest_are_in_the_hash(real: dict[str, BarHistory]) -> None:
    windows = build_windows(real, WINDOWS)
    digest = digest_of_arrays(windows.arrays, windows.manifest)
    for name, array in windows.arrays.items():
        changed = array.copy()
        changed.reshape(-1).view(np.uint8)[-1] ^= 1
        assert digest_of_arrays({**windows.arrays, name: changed}, windows.manifest) != digest, name
    for key in windows.manifest:
        assert digest_of_arrays(windows.arrays, {**windows.manifest, key: "other"}) != digest, key


def test_a_window_is_adjusted_as_for_a_forecast_from_the_end_of_its_lookback(
    real: dict[str, BarHistory], tmp_path: Path
) -> None:
    split = {
        name: replace(
            h, growth=np.where(np.arange(len(h)) < 150, 1.0, 2.0), shares=np.where(np.arange(len(h)) < 150, 1.0, 2.0)
        )
        for name, h in real.items()
    }
    arrays = write_windows(tmp_path, build_windows(split, WINDOWS))
    owner, row = arrays.windows("train")[140]
    history = split[arrays.symbols[owner]]
    end = int(row) + WINDOWS.lookback_window - 1
    expected = history.bars_as_of(end, first=int(row), last=int(row) + arrays.shape.length - 1)
    np.testing.assert_allclose(arrays.adjusted(np.array([row]))[0], expected, rtol=3e-7)


def test_targets_change_nothing_in_the_normalised_lookback(real: dict[str, BarHistory], tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
    found = build_windows(real, WINDOWS)
    arrays = write_windows(first, found)
    row = int(arrays.windows("train")[10, 1])
    bars = found.arrays["bars"].copy()
    bars[row + WINDOWS.lookback_window :, PRICES] *= 5
    other = write_windows(second, replace(found, arrays={**found.arrays, "bars": bars}))
    rule = Normalisation(clip=5.0)
    ours, theirs = (part.normalised(np.array([row]), rule)[0] for part in (arrays, other))
    assert np.array_equal(ours[: WINDOWS.lookback_window], theirs[: WINDOWS.lookback_window])
    assert not np.array_equal(ours, theirs)


def test_blind_windows_have_no_volume_and_no_amount(real: dict[str, BarHistory], tmp_path: Path) -> None:
    arrays = write_windows(tmp_path, build_windows(real, WINDOWS))
    rows = np.asarray(arrays.windows("train")[:3, 1])
    augmentation = Augmentation(blind=np.array([True, False, True]), mirrored=np.zeros(3, dtype=bool))
    values = arrays.normalised(rows, Normalisation(), augmentation)
    assert not values[[0, 2], :, 4:].any()
    assert values[1, :, 4:].any() and values[..., :4].any(axis=(1, 2)).all()


def test_mirrored_windows_fall_where_the_others_rise_and_are_valid_bars(
    real: dict[str, BarHistory], tmp_path: Path
) -> None:
    arrays = write_windows(tmp_path, build_windows(real, WINDOWS))
    rows = np.asarray(arrays.windows("train")[:40, 1])
    plain = arrays.normalised(rows, Normalisation())
    mirrored = np.arange(40) % 2 == 0
    values = arrays.normalised(rows, Normalisation(), Augmentation(np.zeros(40, dtype=bool), mirrored))
    assert np.array_equal(values[~mirrored], plain[~mirrored])
    assert np.array_equal(values[..., 4:], plain[..., 4:])
    assert np.array_equal(values[mirrored][..., [0, 3]], -plain[mirrored][..., [0, 3]])
    mean, std = window_statistics(arrays.adjusted(rows), WINDOWS.lookback_window)
    taken_from = [0, 2, 1, 3]
    prices = values[mirrored][..., :4] * std[mirrored][:, None, taken_from] - mean[mirrored][:, None, taken_from]
    open_, high, low, close = np.moveaxis(prices, -1, 0)
    tiny = 1e-3
    assert np.all(high >= np.maximum(open_, close) - tiny) and np.all(low <= np.minimum(open_, close) + tiny)


def test_augmentation_is_the_same_for_every_model_and_has_the_shares_asked_for() -> None:
    settings = FitSettings(blind=0.05, mirror=0.5)
    ours, again = (Augmentation.draw(20_000, settings, 7) for _ in range(2))
    assert np.array_equal(ours.blind, again.blind) and np.array_equal(ours.mirrored, again.mirrored)
    assert ours.blind.mean() == pytest.approx(0.05, abs=0.01) and ours.mirrored.mean() == pytest.approx(0.5, abs=0.02)
    nothing = Augmentation.draw(20_000, FitSettings(), 7)
    assert not nothing.blind.any() and not nothing.mirrored.any()


def test_a_symbol_with_too_little_history_is_refused_with_its_count(real: dict[str, BarHistory]) -> None:
    short = replace(
        real["IBM"],
        symbol="NEW",
        **{name: getattr(real["IBM"], name)[-20:] for name in ("stamps", "quoted", "growth", "shares")},
    )
    with pytest.raises(CandlecastError, match=r"NEW 20 bars, a window needs 32 \+ 5 = 37.*short_history"):
        build_windows({**real, "NEW": short}, WINDOWS)
    left = build_windows({**real, "NEW": short}, WINDOWS.model_copy(update={"short_history": "exclude"}))
    assert next(c for c in left.counts if c.symbol == "NEW").note == "too short, left out"
    assert left.digest == build_windows(real, WINDOWS).digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": (date(1990, 1, 1), date(1999, 1, 1))}, "train range .* holds 0 windows"),
        ({"validation": (date(2003, 1, 1), date(2003, 1, 31))}, "validation range .* holds 0 windows"),
        ({"test": (date(2020, 1, 1), date(2021, 1, 1))}, "test range .* holds 0 origins"),
        ({"lookback_window": 400, "max_context": 512}, "validation range .* holds 0 windows of 400"),
    ],
)
def test_an_empty_range_is_refused_before_training(
    real: dict[str, BarHistory], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(CandlecastError, match=message) as refused:
        build_windows(real, WindowSettings(**{**WINDOWS.model_dump(), **changes}))
    assert "AAPL 3,270" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train": (date(2000, 3, 1), date(2000, 4, 25))},
            r"train 6, 2 of them share no bar, validation \d+, .*; train needs 4 .*Widen windows\.train",
        ),
        (
            {"validation": (date(2003, 1, 1), date(2003, 3, 14))},
            r"validation 9, 1 of them share no bar; validation needs 2 .*Widen windows\.validation",
        ),
    ],
)
def test_a_range_with_too_few_windows_is_refused_with_the_counts(
    real: dict[str, BarHistory], changes: dict[str, object], message: str
) -> None:
    bars = real if "train" in changes else {"IBM": real["IBM"]}
    with pytest.raises(CandlecastError, match=message):
        build_windows(bars, WindowSettings(**{**WINDOWS.model_dump(), **changes}))


def test_bars_that_are_not_finite_are_refused_with_symbol_and_time(real: dict[str, BarHistory]) -> None:
    quoted = real["AAPL"].quoted.copy()
    quoted[100, CLOSE] = np.inf
    with pytest.raises(CandlecastError, match=r"AAPL has 1 bars that are not finite, the first at 2000-07-2"):
        build_windows({**real, "AAPL": replace(real["AAPL"], quoted=quoted)}, WINDOWS)


def test_counts_are_those_of_the_arrays(real: dict[str, BarHistory]) -> None:
    found = build_windows(real, WINDOWS)
    assert found.total("train") == len(found.arrays["train"])
    counted = volatility_regimes(found.arrays, WindowShape(WINDOWS.lookback_window, WINDOWS.predict_window))
    assert counted["train"].sum() == found.total("train")
    assert counted["validation"].sum() == found.total("validation")
    text, disjoint = sufficiency(found)
    assert disjoint == sum(-(-c.train // 37) for c in found.counts) and str(disjoint) in text


def test_an_origin_needs_a_complete_lookback(real: dict[str, BarHistory]) -> None:
    stamps = real["IBM"].stamps
    rows = origin_rows(stamps, stamps[0].astype(date), stamps[60].astype("datetime64[D]").astype(date), 32)
    assert rows[0] == 31 and rows[-1] == 60


def test_the_sample_has_a_symbol_that_is_not_trained_on(tmp_path: Path) -> None:
    _, warehouse = filled_home(tmp_path, sample_rows(("IBM", "FB")))
    found = build_windows(all_histories(warehouse), WindowSettings())
    unseen = next(c for c in found.counts if c.symbol == "FB")
    assert (unseen.train, unseen.validation) == (0, 0) and unseen.origins > 0 and unseen.note == "unseen in training"


def test_a_bar_of_the_evening_before_is_cut_with_its_session() -> None:
    """In eastern time zones a session opens on the UTC day before; the cutoff applies to sessions, not UTC days."""
    sessions = np.repeat(pd.bdate_range("2004-01-01", periods=1200).to_numpy().astype("datetime64[D]"), 2)
    hours = np.tile([-1, 1], 1200).astype("timedelta64[h]")
    bars = np.tile([10.0, 11, 9, 10.5, 100, 1000], (2400, 1))
    ones = np.ones(2400)
    east = BarHistory("A", sessions.astype("datetime64[s]") + hours, bars, ones, ones, sessions)
    spans = {"train": (date(2004, 1, 1), date(2006, 6, 30)), "validation": (date(2006, 7, 3), date(2007, 6, 29))}
    settings = WINDOWS.model_copy(update={**spans, "test": (date(2007, 7, 2), date(2008, 6, 30))})
    found = build_windows({"A": east}, settings)
    kept = np.asarray(found.arrays["stamps"])
    assert kept.max() == np.datetime64("2007-06-29T01:00") and kept.min() == np.datetime64("2003-12-31T23:00")


def test_the_market_of_training_is_that_of_forecasts(tmp_path: Path) -> None:
    """Of every symbol of the settings, also of one that has no window, and up to the cutoff."""
    rows = sample_rows(("AAPL", "IBM", "MSFT"))
    left_out = rows["Ticker"].eq("MSFT") & ~rows["Date"].between("2003-10-01", "2003-10-31")
    home, warehouse = filled_home(tmp_path, rows[~left_out])
    assert training_market(small_settings(home), warehouse) is None
    rich = CHRONOS.model_copy(update={"past_covariates": ("market_return",)})
    windows = WINDOWS.model_copy(update={"short_history": "exclude"})
    settings = small_settings(home, chronos2=rich, windows=windows)
    histories, market = all_histories(warehouse), training_market(settings, warehouse)
    assert market is not None and market.stamps[-1] == np.datetime64(CUTOFF)
    plain, found = build_windows(histories, windows), build_windows(histories, windows, market=market)
    arrays, stamps = write_windows(tmp_path, found), histories["MSFT"].stamps
    assert plain.digest != found.digest and "MSFT" not in arrays.symbols
    forecast = OtherSymbols.stored(settings).market()
    np.testing.assert_array_equal(arrays.market.at(stamps), forecast.at(stamps))


def test_windows_without_the_market_name_the_asset_that_adds_it(tmp_path: Path, real: dict[str, BarHistory]) -> None:
    with pytest.raises(CandlecastError, match=r"market_return.*training_windows"):
        _ = write_windows(tmp_path, build_windows(real, WINDOWS)).market
