"""Input drift: a limit calibrated on validation origins; drifted origins are reported, or blocked for Kronos."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from assets.forecasting.drift import (
    DriftLimits,
    DriftReference,
    InputDrift,
    drift_limits,
    drift_reference,
    input_tokens,
    token_distance,
)
from assets.forecasting.drift_gate import blocked_origins, write_blocked_origins
from assets.forecasting.origins import select_tasks
from assets.forecasts.ahead import ask_networks
from assets.forecasts.assets import build_assets
from assets.forecasts.drift_asset import drift_asset, not_measured
from assets.forecasts.missing import missing_forecasts
from assets.sessions import RANGE_END, RANGE_START
from resources.checkpoints import Checkpoint
from resources.companion import COMPANION
from resources.errors import CandlecastError
from tests.forecasts.forecast_home import (
    ForecastHome,
    create_home,
    open_home,
    publish_packaged_volatility,
    publish_tiny_kronos,
    real_bars,
)

LOOKBACK, CODES = 32, 16
TRAIN, VALIDATION = (date(2000, 6, 1), date(2002, 12, 31)), (date(2003, 1, 2), date(2003, 10, 31))
TEST = (date(2004, 1, 5), date(2004, 10, 29))
DAY = date(2004, 3, 10)
# Constant prices, as of a feed that repeats its last bar: these origins have drifted.
CONSTANT = (date(2003, 11, 15), date(2004, 3, 20))


def _configured(folder: Path, action: str = "warn") -> ForecastHome:
    windows = {"lookback_window": LOOKBACK, "train": TRAIN, "validation": VALIDATION, "test": TEST}
    return open_home(folder).with_settings(windows=windows, drift={"action": action})


def _reference(home: ForecastHome, tokenizer: Checkpoint) -> DriftReference:
    clip, histories = home.settings.windows.clip, home.histories()
    train, validation = (
        select_tasks(histories, [np.datetime64(s, "s") for s in home.candlecast.calendar.sessions(*span)], LOOKBACK)
        for span in (TRAIN, VALIDATION)
    )
    return drift_reference(
        input_tokens(tokenizer.folder, clip, LOOKBACK, train.tasks[::20]),
        input_tokens(tokenizer.folder, clip, LOOKBACK, validation.tasks),
        np.array([task.origin for task in validation.tasks]),
        CODES,
    )


@pytest.fixture(scope="module")
def drift_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real bars of two symbols, and a Kronos of random weights whose card has the drift reference of their tokens."""
    bars = real_bars()
    chosen = bars["symbol"].isin(["AAPL", "IBM"]) & (bars["ts"] < "2005-01-01")
    folder = tmp_path_factory.mktemp("drift")
    create_home(folder, bars[chosen].reset_index(drop=True))
    home = _configured(folder)
    publish_tiny_kronos(home.checkpoints, scores_of=lambda tokenizer: {"drift": _reference(home, tokenizer)})
    return folder


def _materialise(
    home: ForecastHome, first: date, last: date
) -> tuple[dg.AssetCheckEvaluation, dict[np.datetime64, str]]:
    """The check of `input_drift` over some sessions, and the origins of 2004 that are blocked afterwards."""
    result = dg.materialize(
        [drift_asset(dg.DailyPartitionsDefinition("2004-01-02"))],
        tags={RANGE_START: str(first), RANGE_END: str(last)} if first != last else {},
        partition_key=str(first) if first == last else None,
        raise_on_error=False,
        resources={"candlecast": home.candlecast},
    )
    predictor = home.checkpoints.current("kronos_predictor")
    assert predictor
    origins = [np.datetime64(s, "s") for s in home.candlecast.calendar.sessions(date(2004, 1, 2), date(2004, 12, 31))]
    return result.get_asset_check_evaluations()[0], blocked_origins(home.candlecast.home, predictor.digest, origins)


@pytest.fixture
def usual_home(drift_folder: Path, tmp_path: Path) -> ForecastHome:
    """Bars like those of training; drifted origins are blocked."""
    return _configured(Path(shutil.copytree(drift_folder, tmp_path / "home")), "block")


def _with_constant_prices(home: ForecastHome) -> ForecastHome:
    with home.warehouse.write() as connection:
        connection.execute(
            "UPDATE bars SET open = 50, high = 50, low = 50, close = 50, volume = 50 WHERE ts BETWEEN ? AND ?",
            list(CONSTANT),
        )
    return home


@pytest.mark.parametrize(
    ("action", "severity"), [("warn", dg.AssetCheckSeverity.WARN), ("block", dg.AssetCheckSeverity.ERROR)]
)
def test_a_drifted_origin_is_reported_or_blocked(
    usual_home: ForecastHome, action: str, severity: dg.AssetCheckSeverity
) -> None:
    home = _with_constant_prices(_configured(usual_home.candlecast.home.root, action))
    check, blocked = _materialise(home, DAY, DAY)
    assert not check.passed and check.severity == severity
    assert len(blocked) == (action == "block")


def test_usual_input_passes(usual_home: ForecastHome) -> None:
    check, blocked = _materialise(usual_home, DAY, DAY)
    assert check.passed and not blocked


def test_tokens_asked_in_advance_are_those_that_drift_is_measured_with(
    usual_home: ForecastHome, drift_folder: Path, tmp_path: Path
) -> None:
    home = usual_home.with_settings(compute={"workers": 2, "threads": 1, "device": "cpu"})
    tasks = select_tasks(home.histories(), [np.datetime64(DAY, "s")], LOOKBACK).tasks
    try:
        COMPANION.start()
        ask_networks(home.candlecast, {"input_drift", "kronos_predictor"}, tasks)
        assert COMPANION.asked == 0  # the weights are made in the same run
        ask_networks(home.candlecast, {"input_drift"}, tasks[:1])  # drift is of all symbols
        assert COMPANION.asked == 1
        check, _ = _materialise(home, DAY, DAY)
        assert COMPANION.asked == 0
        ask_networks(home.candlecast, {"input_drift"}, tasks)
        assert COMPANION.asked == 0  # its distances are kept
    finally:
        COMPANION.stop()
    alone, _ = _materialise(_configured(Path(shutil.copytree(drift_folder, tmp_path / "other")), "block"), DAY, DAY)
    assert check.description == alone.description


def test_of_many_origins_only_the_drifted_ones_are_blocked(usual_home: ForecastHome) -> None:
    """The newest has not drifted: the run continues with the origins that are not blocked."""
    home = _with_constant_prices(usual_home)
    check, blocked = _materialise(home, *TEST)
    planned = home.origins(*TEST)
    assert not check.passed and check.severity == dg.AssetCheckSeverity.WARN
    assert 0 < len(blocked) < len(planned) and str(min(blocked)) in str(check.description)
    constant = [day for day in planned if day <= np.datetime64(CONSTANT[1])]
    assert set(constant) <= set(blocked) and planned[-1] not in blocked
    with pytest.raises(CandlecastError, match="drift"):
        select_tasks(home.histories(), list(blocked), LOOKBACK, blocked)


def test_an_origin_that_has_not_drifted_any_more_is_unblocked(usual_home: ForecastHome) -> None:
    origin, folder = np.datetime64(DAY, "s"), usual_home.candlecast.home
    write_blocked_origins(folder, "p" * 64, {origin: "far"})
    assert blocked_origins(folder, "p" * 64, [origin]) == {origin: "far"}
    write_blocked_origins(folder, "p" * 64, {origin: None})
    assert blocked_origins(folder, "p" * 64, [origin]) == {}


def test_origins_blocked_by_an_earlier_version_stay_blocked(usual_home: ForecastHome) -> None:
    origin, home = np.datetime64(DAY, "s"), usual_home.candlecast.home
    former = home.drift / ("p" * 16) / "withheld"
    former.mkdir(parents=True)
    (former / "20040310000000.txt").write_text("far")
    assert blocked_origins(home, "p" * 64, [origin]) == {origin: "far"}


def test_drift_that_cannot_be_measured_fails_the_check_if_it_would_block() -> None:
    assert isinstance(drift_limits({"scores": {}}, 0.99), str)
    few = {"histogram": [1], "sizes": [1], "distances": [[0.1] * 5]}
    reason = str(drift_limits({"scores": {"drift": few}}, 0.99))
    assert "5 validation origins" in reason and "windows.validation" in reason
    (check,) = not_measured(reason, passed=False).check_results or ()
    assert not check.passed and check.severity == dg.AssetCheckSeverity.ERROR


def test_the_limit_is_calibrated_on_validation_origins_of_as_many_symbols() -> None:
    rng = np.random.default_rng(7)
    train = rng.integers(0, 8, 10_000)
    validation, origins = rng.integers(0, 8, (600, 30)), np.repeat(np.arange(50), 12)
    reference = drift_reference(train, validation, origins, 8)
    assert reference["sizes"] == [1, 2, 4, 8, 12] and all(len(one) == 50 for one in reference["distances"])
    assert sum(reference["histogram"]) == 10_000
    allowed = drift_limits({"scores": {"drift": reference}}, 0.99)
    assert isinstance(allowed, DriftLimits)
    assert allowed.of(1) > allowed.of(3) > allowed.of(12) == allowed.of(500)
    counts = np.asarray(reference["histogram"])
    for symbols in (1, 3, 12):
        same = [token_distance(counts, np.bincount(rng.integers(0, 8, 30 * symbols), minlength=8)) for _ in range(300)]
        assert np.mean([InputDrift(one, allowed.of(symbols)).drifted for one in same]) < 0.08
        other = token_distance(counts, np.bincount(rng.integers(0, 3, 30 * symbols), minlength=8))
        assert InputDrift(other, allowed.of(symbols)).drifted


def test_what_is_calibrated_from_kronos_is_skipped_where_kronos_is_blocked(usual_home: ForecastHome) -> None:
    publish_packaged_volatility(usual_home.checkpoints, "2003-12-31")
    predictor = usual_home.checkpoints.current_digest("kronos_predictor")
    assert predictor
    sessions = [DAY, date(2004, 3, 11)]
    blocked, free = (np.datetime64(day, "s") for day in sessions)
    write_blocked_origins(usual_home.candlecast.home, predictor, {blocked: "far from its training"})
    home = usual_home.with_settings(forecasts={"every": 1, "sample_count": 30})
    result = dg.materialize(
        build_assets(home.settings, dg.DailyPartitionsDefinition("2004-01-02")),
        selection=["baseline_forecasts", "volatility_forecasts", "kronos_forecasts", "calibrated_forecasts"],
        tags={RANGE_START: str(sessions[0]), RANGE_END: str(sessions[1])},
        resources={"candlecast": home.candlecast},
    )
    assert result.success
    made = home.warehouse.frame("SELECT DISTINCT model, origin FROM forecasts WHERE model LIKE 'kronos%'")
    assert (made["origin"] == free.item()).all()
    assert {"kronos", "kronos_anchored", "kronos_anchored_recalibrated"} <= set(made["model"])
    assert home.warehouse.frame("FROM failed_forecasts").empty
    missing = missing_forecasts(home.candlecast, sessions)
    assert set(missing["asset"]) <= {"combined_forecasts"}
