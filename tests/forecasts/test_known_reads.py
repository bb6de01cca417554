"""What derived models read stays known in the process until what they read changes."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pytest

from assets.forecasting.calibration import known_reads
from assets.forecasting.calibration.base_keys import Base
from assets.forecasting.calibration.fingerprints import Fingerprints
from assets.forecasting.calibration.models import SharedReads, derived_model
from assets.forecasting.calibration.recalibration import Recalibration
from assets.forecasting.calibration.stored import StoredForecasts
from assets.forecasting.companion import WEIGHTS
from assets.forecasting.forecaster import ForecastModel, ForecastTask
from assets.forecasting.registry import forecasters_by_task, forecasters_in
from assets.forecasts import forecast_store
from assets.forecasts.ahead import learn_ahead
from assets.forecasts.batches import target_timestamps
from assets.forecasts.generate import generate_all, generate_forecasts
from resources.companion import COMPANION, CompanionFunction
from resources.warehouse import Warehouse
from tests.forecasts.forecast_home import ForecastHome
from tests.resources.test_worker_processes import adds

FIRST, LATER = (date(2011, 1, 3), date(2011, 6, 30)), (date(2011, 7, 1), date(2011, 7, 29))
RECALIBRATED = ("random_walk_recalibrated", "drift_recalibrated")


@pytest.fixture
def bases(home: ForecastHome) -> dict[str, ForecastModel]:
    """Two models with forecasts from all origins."""
    models = forecasters_in("baseline_forecasts", home.settings, home.checkpoints)
    found = {one.model: one for one in models if one.model in ("random_walk", "drift")}
    tasks = home.tasks(FIRST[0], LATER[1])
    generate_all(home.candlecast, [(model, tasks) for model in found.values()])
    return found


def _derived(home: ForecastHome, asset: str, *names: str) -> list[tuple[ForecastModel, list[ForecastTask]]]:
    tasks = home.tasks(*LATER)
    return [own for own in forecasters_by_task(asset, home.settings, home.checkpoints, tasks) if own[0].model in names]


def _combined(home: ForecastHome) -> np.ndarray:
    """The combined quantiles from all later origins."""
    ((model, tasks),) = _derived(home, "combined_forecasts", "combination_crps")
    targets = target_timestamps(tasks, home.candlecast.calendar, home.settings.windows.predict_window)
    return model.load()(tasks, targets).quantiles


def _calibrated(home: ForecastHome) -> list[np.ndarray]:
    """The recalibrated quantiles from all later origins: of random_walk, and of drift."""
    made = []
    for model, tasks in _derived(home, "calibrated_forecasts", *RECALIBRATED):
        targets = target_timestamps(tasks, home.candlecast.calendar, home.settings.windows.predict_window)
        made.append(model.load()(tasks, targets).quantiles)
    return made


def _as_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_reads, "_known", None)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many forecasts each query of quantiles asked for, and a 1 for each query of a fingerprint."""
    found = list[int]()
    quantiles, contents = StoredForecasts.quantiles, Fingerprints._contents

    def counted(stored: StoredForecasts, *args: Any) -> np.ndarray:
        found.append(int(np.isin(args[0], ["random_walk", "drift"]).sum()))
        return quantiles(stored, *args)

    def fingerprint(own: Fingerprints, base: Base, checkpoint: str, last: np.datetime64) -> str:
        if (base.model, checkpoint, last) not in own._stored.known.contents:
            found.append(1)
        return contents(own, base, checkpoint, last)

    monkeypatch.setattr(StoredForecasts, "quantiles", counted)
    monkeypatch.setattr(Fingerprints, "_contents", fingerprint)
    return found


@pytest.mark.usefixtures("bases")
def test_combinations_read_nothing_again_that_calibrated_models_read_and_forecast_the_same(
    home: ForecastHome, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = generate_all(
        home.candlecast, _derived(home, "calibrated_forecasts", "random_walk_recalibrated", "drift_recalibrated")
    )
    assert all(one.created for one in made) and sum(read) > 0
    read.clear()
    together = _combined(home)
    # Members without forecasts may have some meanwhile: those from the new origins alone are read for all.
    newest = 2 * len(home.tasks(*LATER))
    assert sum(read) == newest
    read.clear()
    _as_another_process(monkeypatch)
    np.testing.assert_array_equal(_combined(home), together)
    assert sum(read) > 2 * newest


def _without_later_origins(home: ForecastHome, bases: dict[str, ForecastModel], name: str) -> None:
    """Keep what calibrated models learnt, and then remove a model's forecasts from the later origins."""
    _calibrated(home)
    assert len(list(home.candlecast.home.learnt.glob("*.state"))) == 2
    with home.warehouse.write() as connection:
        for table in ("forecasts", "forecast_quantiles"):
            query = f"DELETE FROM {table} WHERE model = ? AND checkpoint = ? AND origin >= ?"
            connection.execute(query, [name, bases[name].checkpoint, LATER[0]])


def test_what_is_learnt_while_a_run_waits_for_its_last_model_is_not_read_again(
    home: ForecastHome, bases: dict[str, ForecastModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_later_origins(home, bases, "drift")
    _as_another_process(monkeypatch)
    run, reads = {*WEIGHTS, "calibrated_forecasts"}, list[str]()
    quantiles = StoredForecasts.quantiles

    def counted(stored: StoredForecasts, *args: Any) -> np.ndarray:
        reads.extend(set(args[0]))
        return quantiles(stored, *args)

    monkeypatch.setattr(StoredForecasts, "quantiles", counted)
    learn_ahead(home.candlecast, run, "kronos_forecasts", {"drift"})
    assert not reads  # nothing waits for a network
    try:
        CompanionFunction(partial(adds, 1)).ask(1)
        learn_ahead(home.candlecast, run, "chronos2_forecasts", {"drift"})
        learn_ahead(home.candlecast, {*WEIGHTS}, "kronos_forecasts", {"drift"})
        assert not reads  # another asset waits later, or nothing is calibrated
        learn_ahead(home.candlecast, run, "kronos_forecasts", {"drift"})
        assert set(reads) == {"random_walk", "drift"}
    finally:
        COMPANION.stop()
    assert generate_forecasts(home.candlecast, bases["drift"], home.tasks(*LATER)).created
    known = known_reads.known_reads(home.settings, home.warehouse)
    assert {model for model, *_ in known.contents} >= {"random_walk", "drift"}
    assert set(RECALIBRATED) & {name.partition("-")[0] for name, _ in known.learnt} == {"random_walk_recalibrated"}
    reads.clear()
    after = _calibrated(home)
    assert set(reads) == {"drift"}
    _as_another_process(monkeypatch)
    np.testing.assert_array_equal(_calibrated(home), after)


def test_earlier_forecasts_that_are_written_later_are_learnt_from(
    home: ForecastHome, bases: dict[str, ForecastModel]
) -> None:
    before = _calibrated(home)
    with home.warehouse.write() as connection:
        for table in ("forecasts", "forecast_quantiles"):
            # Not of all symbols: states are under their origins, too.
            connection.execute(
                f"DELETE FROM {table} WHERE model = 'drift' AND symbol = 'IBM' AND origin < '2011-05-01'"
            )
    fewer = _calibrated(home)
    assert np.array_equal(fewer[0], before[0]) and not np.array_equal(fewer[1], before[1])
    assert generate_forecasts(home.candlecast, bases["drift"], home.tasks(*FIRST)).created
    np.testing.assert_array_equal(_calibrated(home), before)


def test_the_first_forecast_of_a_symbol_is_not_taken_for_one_of_another(
    home: ForecastHome, bases: dict[str, ForecastModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    with home.warehouse.write() as connection:
        for table in ("forecasts", "forecast_quantiles"):
            connection.execute(f"DELETE FROM {table} WHERE symbol = 'AAPL'")
    _calibrated(home)
    generate_all(home.candlecast, [(model, home.tasks(*FIRST)) for model in bases.values()])
    after = _calibrated(home)
    _as_another_process(monkeypatch)
    np.testing.assert_array_equal(_calibrated(home), after)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE forecast_quantiles SET value = value * 1.01 WHERE model = 'drift' AND origin = '2011-03-09'",
        "UPDATE bars SET close = close * 1.2 WHERE symbol = 'IBM' AND ts = '2011-03-10'",
    ],
)
@pytest.mark.usefixtures("bases")
def test_after_any_other_write_all_is_read_again(
    home: ForecastHome, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    before = _combined(home)
    with home.warehouse.write() as connection:
        changed = connection.execute(change).fetchall()
    assert changed[0][0] > 0
    after = _combined(home)
    assert not np.array_equal(after, before)
    _as_another_process(monkeypatch)
    np.testing.assert_array_equal(_combined(home), after)


@pytest.mark.usefixtures("bases")
def test_a_write_between_that_of_a_run_and_its_next_read_is_seen(
    home: ForecastHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after_another_write(*args: Any) -> None:
        with Warehouse(home.warehouse.path).write() as connection:
            connection.execute("UPDATE forecast_quantiles SET value = value * 1.01 WHERE model = 'drift'")
        known_reads.keep_known(*args)

    monkeypatch.setattr(forecast_store, "keep_known", after_another_write)
    generate_all(home.candlecast, _derived(home, "calibrated_forecasts", "drift_recalibrated"))
    after = _combined(home)
    _as_another_process(monkeypatch)
    np.testing.assert_array_equal(after, _combined(home))


def test_what_is_derived_from_derived_forecasts_reads_those_that_were_made_meanwhile(
    home: ForecastHome, bases: dict[str, ForecastModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, tasks = home.settings, home.tasks(*LATER)
    learn = Recalibration(settings.forecasts.levels, settings.windows.predict_window, settings.calibration.half_life)

    def chain() -> tuple[ForecastModel, ForecastModel, StoredForecasts]:
        shared = SharedReads(settings)
        first = derived_model("first", [[bases["drift"]]], learn, {}, None, settings, shared)
        return first, derived_model("second", [[first]], learn, {}, None, settings, shared), shared.forecasts

    for made, own in enumerate(([tasks[0]], [tasks[-1]]), start=1):
        first, second, stored = chain()
        (result,) = generate_all(home.candlecast, [(first, own)])
        assert result.created == 1
        assert len(stored.keys_of(Base("first", (first.checkpoint,))).origins) == made
        assert generate_forecasts(home.candlecast, second, own).created == 1
    # The known forecasts of the model that was not written were kept from the first run to the second.
    assert known_reads.known_reads(settings, home.warehouse) is stored.known
    assert any(base.model == "drift" for base in stored.known.keys)


@pytest.mark.usefixtures("bases")
def test_many_quantiles_do_not_stay_in_memory_for_another_asset(
    home: ForecastHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_reads, "VALUES_SHARED", 100)
    generate_all(home.candlecast, _derived(home, "calibrated_forecasts", "drift_recalibrated"))
    assert known_reads._known is None


def test_nothing_stays_in_memory_of_a_warehouse_whose_version_is_not_known(
    home: ForecastHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_reads, "_known", None)
    named = Warehouse("md:forecasts")
    assert known_reads.known_reads(home.settings, named) is not known_reads.known_reads(home.settings, named)
    assert known_reads._known is None
