"""Networks asked in advance: the companion computes them while this process makes the first forecasts of a run.

And what this process does while it would wait for the last of them: it learns what calibrated forecasts need.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress

import numpy as np

from assets.forecasting.companion import WEIGHTS, start_companion
from assets.forecasting.drift import drift_limits
from assets.forecasting.drift_gate import BLOCKED_MODEL
from assets.forecasting.forecaster import ForecastModel, ForecastTask, NetworkPredict
from assets.forecasting.model_vintages import tasks_by_vintage
from assets.forecasting.origins import select_tasks
from assets.forecasting.registry import forecasters_by_task, models_of
from assets.forecasts.batches import batches_of, key_of, missing_tasks, target_timestamps
from assets.forecasts.drift_distances import InputDistances
from assets.forecasts.forecast_store import existing_forecasts
from assets.forecasts.generate import range_of
from assets.forecasts.lookahead_check import reversed_halves, tasks_to_repeat
from assets.market.history import stored_histories
from resources.candlecast import Candlecast
from resources.companion import COMPANION
from resources.settings_models import CALIBRATED_ASSET, forecast_asset


def ask_networks(candlecast: Candlecast, run: Set[str], tasks: Sequence[ForecastTask]) -> None:
    """Ask for the missing forecasts of the tasks by networks whose weights are there.

    Args:
        run: the assets of the run, whose later assets make these forecasts.
        tasks: ordered by origin.
    """
    if not tasks:
        return
    if "input_drift" in run and run.isdisjoint(WEIGHTS["kronos_forecasts"]):
        with suppress(Exception):
            _ask_drift(candlecast, sorted({task.origin for task in tasks}))
    for asset, weights in WEIGHTS.items():
        if asset in run - _blockable(candlecast) and run.isdisjoint(weights):
            # What is wrong is the error of the asset itself.
            with suppress(Exception):
                _ask(candlecast, forecasters_by_task(asset, candlecast.settings, candlecast.checkpoints, tasks))


def learn_ahead(candlecast: Candlecast, run: Set[str], asset: str, unmade: Set[str]) -> None:
    """Learn what the calibrated forecasts of a run will need, where an asset is the last one that waits for networks.

    Most of it is read from earlier origins, and stays known while forecasts are written (calibration.known_reads).

    Args:
        unmade: the models of the asset, from whose forecasts nothing is learnt yet.
    """
    last = next((name for name in reversed(WEIGHTS) if name in run), None)
    if asset != last or CALIBRATED_ASSET not in run or not COMPANION.asked or candlecast.warehouse.version is None:
        return
    # What is wrong is the error of the asset itself.
    with suppress(Exception):
        models = models_of(CALIBRATED_ASSET, candlecast.settings, candlecast.checkpoints)
        unmade = unmade | {one.model for one in models}
        for model in models:
            if unmade.isdisjoint(model.recipe["derived_from"]):
                model.load()


def _ask_drift(candlecast: Candlecast, origins: Sequence[np.datetime64]) -> None:
    """Ask for the tokens that `input_drift` will need: before the forecasts, for which it would wait otherwise."""
    settings = candlecast.settings
    if settings.drift.action == "off" or len(origins) > 1:
        return
    # Of all symbols, whichever a run forecasts.
    selection = select_tasks(stored_histories(settings), origins, settings.windows.lookback_window)
    for vintage, own in tasks_by_vintage(settings, selection.tasks).items():
        predictor = candlecast.checkpoints.at(vintage).current("kronos_predictor")
        if predictor is not None and not isinstance(drift_limits(predictor.card, settings.drift.quantile), str):
            InputDistances(candlecast, predictor, own).ask()


def _blockable(candlecast: Candlecast) -> set[str]:
    """The assets whose origins `input_drift` may block: which ones is not known before it was made in the run."""
    return {forecast_asset(BLOCKED_MODEL)} if candlecast.settings.drift.action == "block" else set()


def _ask(candlecast: Candlecast, models: Sequence[tuple[ForecastModel, Sequence[ForecastTask]]]) -> None:
    """Ask for what `generate_all` of these models and its checks will need of their networks.

    Of forecasts of a batch each, which a day has; many are split over processes once they are generated.
    """
    existing = existing_forecasts(candlecast.warehouse, [range_of(*own) for own in models])
    for (forecaster, tasks), known in zip(models, existing, strict=True):
        missing = missing_tasks(candlecast.home, forecaster, tasks, known, known & forecaster.outdated())
        if forecaster.in_worker is None or not missing:
            continue
        start_companion(candlecast.settings)
        batches = batches_of(candlecast, forecaster, missing)
        # Without a companion the network would be loaded here.
        predict = forecaster.load() if COMPANION.worker and len(batches) == 1 else None
        if not isinstance(predict, NetworkPredict):
            continue
        predict.ask(*batches[0])
        sampled = set(map(key_of, tasks_to_repeat(missing)))
        for half in reversed_halves([task for task in missing if key_of(task) in sampled]):
            predict.ask(half, target_timestamps(half, candlecast.calendar, candlecast.settings.windows.predict_window))
