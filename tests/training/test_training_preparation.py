"""Preparation of windows and lookbacks: filled gaps, missing volume, events. The defaults change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from assets.forecasting.chronos2.forecaster import chronos2_forecaster
from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.forecasting.lookbacks import fill_lookbacks
from assets.market.events import with_events
from assets.market.gaps import GapFill, without_filled
from assets.market.history import CLOSE, PRICES, VOLUME, BarHistory
from assets.training.checkpoint_request import checkpoint_request
from assets.training.data.current_windows import TrainingWindows
from assets.training.data.dataset import Augmentation, WindowArrays, write_arrays
from assets.training.data.windows import WindowSet, build_windows
from assets.training.model_card import render_model_card
from assets.training.model_selection.scoring import validation_tasks
from kronos.normalisation import Normalisation
from resources.calendar import TradingCalendar
from resources.checkpoints import CheckpointStore
from resources.layout import Home
from resources.settings import FillRule, MarketSettings, Settings
from tests.forecasts.forecast_home import publish_tiny_chronos2, publish_tiny_kronos
from tests.training.training_setup import TOKENIZER, WINDOWS, all_histories, filled_home

SESSIONS = TradingCalendar("XNYS").sessions(date(2000, 3, 1), date(2005, 12, 30)).to_numpy().astype("datetime64[s]")


def walk(symbol: str = "AAPL", left_out: Sequence[int] = (), seed: int = 0) -> BarHistory:
    """A random walk over the sessions of New York without those of some numbers."""
    rng = np.random.default_rng(seed)
    kept = np.delete(np.arange(len(SESSIONS)), np.asarray(left_out, dtype=int))
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, len(SESSIONS))))
    bars = np.column_stack(
        [close, close * 1.01, close * 0.99, close, rng.integers(1, 9, len(close)) * 100.0, close * 300]
    )
    ones = np.ones(len(kept))
    return BarHistory(symbol, SESSIONS[kept], bars[kept], ones, ones, SESSIONS[kept].astype("datetime64[D]"))


def fill(rule: FillRule, limit: int = 3) -> GapFill:
    return GapFill(rule, limit, "XNYS", "1d")


def test_gaps_up_to_the_limit_are_filled_and_say_so() -> None:
    history = walk(left_out=[10, 20, 21, 30, 31, 32, 33])
    forward, straight = (fill(rule).apply(history) for rule in ("forward", "interpolate"))
    for filled in (forward, straight):
        assert filled.filled is not None
        assert filled.stamps[filled.filled].tolist() == SESSIONS[[10, 20, 21]].tolist()
        assert np.array_equal(without_filled(filled).quoted, history.quoted)
        assert np.array_equal(without_filled(filled).stamps, history.stamps)
    before, after = history.quoted[9], history.quoted[10]
    assert forward.quoted[10].tolist() == [before[CLOSE]] * 4 + [0, 0]
    np.testing.assert_allclose(straight.quoted[10], (before + after) / 2)
    # The second gap begins after 20 rows, and the fill of the first is one more.
    before, after = history.quoted[18], history.quoted[19]
    np.testing.assert_allclose(straight.quoted[21], before / 3 + after * 2 / 3)


def test_a_gap_before_a_split_is_filled_in_adjusted_prices() -> None:
    history = walk(left_out=[50])
    split = np.where(np.arange(len(history)) < 50, 1.0, 4.0)
    quoted = history.quoted.copy()
    quoted[50:, PRICES] /= 4
    quoted[50:, VOLUME] *= 4
    history = replace(history, quoted=quoted, growth=split, shares=split)
    filled = fill("interpolate").apply(history)
    adjusted = filled.bars_as_of(60, 49, 51)
    np.testing.assert_allclose(adjusted[1, :5], (adjusted[0, :5] + adjusted[2, :5]) / 2)


def test_intraday_gaps_are_filled_within_the_trading_hours() -> None:
    grid = TradingCalendar("XHKG", "1h").grid(date(2024, 1, 9), date(2024, 1, 10))["ts"].to_numpy()
    stamps = grid.astype("datetime64[s]")
    kept = np.delete(np.arange(len(stamps)), [2, 3])
    bars = np.column_stack([np.linspace(10, 11, len(stamps))] * 4 + [np.full(len(stamps), np.nan)] * 2)
    ones = np.ones(len(kept))
    history = BarHistory("0700", stamps[kept], bars[kept], ones, ones)
    filled = GapFill("interpolate", 2, "XHKG", "1h").apply(history)
    assert np.array_equal(filled.stamps, stamps)
    np.testing.assert_allclose(filled.quoted[:, CLOSE], bars[:, CLOSE])
    assert np.isnan(filled.quoted[:, VOLUME]).all()


@pytest.mark.parametrize("rule", ["forward", "interpolate"])
def test_no_filled_value_depends_on_a_bar_after_the_origin(rule: FillRule) -> None:
    history = walk(left_out=[5, 40, 41, 43])
    later = history.quoted.copy()
    origin = 41
    later[origin + 1 :] *= 3
    tasks = [ForecastTask("AAPL", h.stamps[origin], h, origin) for h in (history, replace(history, quoted=later))]
    one, other = (fill_lookbacks([task], fill(rule))[0] for task in tasks)
    assert one.origin == one.history.stamps[one.index] == other.history.stamps[other.index]
    assert np.array_equal(one.history.bars_as_of(one.index), other.history.bars_as_of(other.index))
    assert one.history.filled is not None and one.history.filled[: one.index + 1].sum() == 4


def written(folder: Path, windows: WindowSet) -> WindowArrays:
    folder.mkdir()
    write_arrays(folder, windows.arrays, dict(windows.manifest))
    return WindowArrays(folder)


def test_filled_bars_are_in_lookbacks_and_never_a_target_or_scored(tmp_path: Path) -> None:
    gone = [*range(100, len(SESSIONS), 37), *range(500, 512)]
    histories = {"AAPL": walk(left_out=gone), "IBM": walk("IBM", seed=1)}
    settings = WINDOWS.model_copy(update={"fill": "forward", "fill_limit": 2})
    rule = GapFill.of(Settings(windows=settings))
    windows = build_windows({name: rule.apply(one) for name, one in histories.items()}, settings)
    arrays = written(tmp_path / "windows", windows)
    filled = np.asarray(arrays.filled)
    rows = arrays.rows(arrays.windows("train")[:, 1])
    lookback = settings.lookback_window
    assert filled[rows[:, : lookback - 1]].any()
    assert not filled[rows[:, lookback - 1 :]].any()
    assert windows.manifest["fill"] == {"rule": "forward", "limit": 2}
    stamps = {name: set(one.stamps.tolist()) for name, one in histories.items()}
    for task in validation_tasks(arrays, 40):
        assert set(task.history.stamps.tolist()) <= stamps[task.symbol]
        assert task.history.stamps[task.index] == task.origin
    plain = build_windows(histories, WINDOWS)
    assert plain.digest != windows.digest
    # As many origins as there are bars with a lookback, not one for a filled bar.
    assert windows.origins == plain.origins


def test_windows_without_choices_have_the_digest_they_had(tmp_path: Path) -> None:
    _, warehouse = filled_home(tmp_path)
    histories = all_histories(warehouse)
    windows = build_windows(histories, WINDOWS)
    marked = with_events(histories, warehouse, "1d")
    assert not {"fill", "events"} & windows.manifest.keys()
    assert "filled" not in windows.arrays
    assert build_windows(marked, WINDOWS).digest == windows.digest
    requests = [
        checkpoint_request(
            "kronos_tokenizer",
            Settings(windows=WINDOWS.model_copy(update={"missing_volume": rule}), tokenizer=TOKENIZER),
            TrainingWindows("0", write_manifest(tmp_path / rule, windows)),
        ).recipe
        for rule in ("zero", "median")
    ]
    assert "missing_volume" not in requests[0]
    assert requests[1] == {**requests[0], "missing_volume": "median"}


def write_manifest(folder: Path, windows: WindowSet) -> Path:
    written(folder, windows)
    return folder


def test_training_leaves_out_or_thins_windows_with_events_and_validation_keeps_them() -> None:
    events = np.zeros(len(SESSIONS), dtype=bool)
    events[[200, 201, 480]] = True
    history = replace(walk(), events=events)
    found = {
        rule: build_windows({"AAPL": history}, WINDOWS.model_copy(update={"events": rule}))
        for rule in ("keep", "drop", "downweight")
    }
    length = WINDOWS.lookback_window + WINDOWS.predict_window
    held = 2 * length + 1
    kept = {rule: len(windows.arrays["train"]) for rule, windows in found.items()}
    assert kept["keep"] - kept["drop"] == held
    assert kept["keep"] - kept["downweight"] == pytest.approx(held * 3 / 4, abs=2)
    for row in found["drop"].arrays["train"][:, 1]:
        assert not events[row : row + length].any()
    assert len({len(windows.arrays["validation"]) for windows in found.values()}) == 1
    assert len({windows.digest for windows in found.values()}) == 3
    assert found["drop"].manifest["events"] == "drop"


def test_events_are_read_from_the_flags_and_splits_of_the_bars(tmp_path: Path) -> None:
    _, warehouse = filled_home(tmp_path)
    histories = all_histories(warehouse)
    with warehouse.write() as connection:
        connection.execute("UPDATE bars SET flags = ['jump'] WHERE symbol = 'IBM' AND ts = '2001-04-19'")
        connection.execute("UPDATE bars SET flags = ['after_gap'] WHERE symbol = 'IBM' AND ts = '2001-04-20'")
        connection.execute("UPDATE bars SET split = 2 WHERE symbol = 'IBM' AND ts = '2001-04-23'")
    marked = with_events(histories, warehouse, "1d")["IBM"]
    assert marked.events is not None
    assert marked.stamps[marked.events].astype("datetime64[D]").astype(str).tolist() == ["2001-04-19", "2001-04-23"]


@pytest.mark.parametrize("rule", ["zero", "median", "mask"])
def test_training_windows_are_prepared_by_the_rule_of_the_library(rule: str, tmp_path: Path) -> None:
    history = walk()
    quoted = history.quoted.copy()
    quoted[::3, VOLUME:] = np.nan
    windows = build_windows({"AAPL": replace(history, quoted=quoted)}, WINDOWS)
    arrays = written(tmp_path / "windows", windows)
    row = int(arrays.windows("train")[7, 1])
    normalisation = Normalisation(missing_volume=rule)  # type: ignore[arg-type]
    lookback = WINDOWS.lookback_window
    expected = normalisation.apply(arrays.adjusted(np.array([row])), lookback)[0]
    nothing = Augmentation(blind=np.array([False]), mirrored=np.array([False]))
    assert np.array_equal(arrays.normalised(np.array([row]), normalisation, nothing), expected)
    assert np.isfinite(expected).all()
    blind = Augmentation(blind=np.array([True]), mirrored=np.array([False]))
    assert not arrays.normalised(np.array([row]), normalisation, blind)[..., VOLUME:].any()


def test_a_forecast_follows_the_fill_of_its_weights_and_names_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    store = CheckpointStore(home)
    publish_tiny_kronos(store)
    publish_tiny_chronos2(store)
    plain = Settings(windows=WINDOWS, market=MarketSettings())
    set_on = Settings(windows=WINDOWS.model_copy(update={"fill": "interpolate"}))
    for build in (kronos_forecaster, chronos2_forecaster):
        assert "fill" not in build(plain, store).recipe
        assert build(set_on, store).recipe["fill"] == {"rule": "interpolate", "limit": 5}
    # Weights that were fitted here: as they were fitted, whatever the settings are now.
    assert GapFill.of(set_on, {"train": {}}).rule == "none"
    assert GapFill.of(plain, {"fill": {"rule": "forward", "limit": 2}}).recipe == {
        "fill": {"rule": "forward", "limit": 2}
    }


def test_a_kronos_forecast_with_a_gap_depends_on_the_fill(tmp_path: Path) -> None:
    store = CheckpointStore(Home(tmp_path))
    publish_tiny_kronos(store)
    history = walk(left_out=[980])
    task = ForecastTask("AAPL", history.stamps[990], history, 990)
    targets = history.stamps[991:996][None]
    found = {}
    for rule in ("none", "interpolate"):
        settings = Settings(windows=WINDOWS.model_copy(update={"fill": rule}))
        found[rule] = kronos_forecaster(settings, store).load()([task], targets).quantiles
    assert np.isfinite(found["interpolate"]).all()
    assert not np.array_equal(found["none"], found["interpolate"])


def test_the_card_names_the_preparation() -> None:
    card = {
        "name": "candlecast kronos predictor", "cutoff": "2010-12-31", "parameters": 1, "licence": "MIT", "scores": {},
        "base": {"weights": "none", "revision": None, "digest": "0", "licence": "MIT"}, "curves": {}, "data_hash": "0",
        "training": {
            "train": {"windows": 1, "first": "a", "last": "b"}, "validation": {"windows": 1, "first": "a", "last": "b"},
            "lookback": 1, "horizon": 1, "symbols": ["A"], "fill": {"rule": "forward", "limit": 7}, "events": "drop",
        },
        "normalisation": {"clip": 5.0, "missing_volume": "mask"}, "tokenizer": None, "seed": 1, "versions": {},
    }  # fmt: skip
    text = render_model_card(card)
    assert "forward, at most 7" in text and "event: drop" in text and "amount: mask" in text
