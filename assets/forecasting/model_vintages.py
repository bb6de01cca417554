"""The vintages of each model that can forecast: which are trained, and which origins each forecasts.

Not here: the models themselves (registry), and the dates of vintages (resources.vintages).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from assets.forecasting.baselines.closed_form import ESTIMATED
from assets.forecasting.chronos2.forecaster import MODEL as CHRONOS2
from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.kronos_forecaster import MODEL as KRONOS
from assets.forecasting.volatility.forecaster import MODEL as VOLATILITY
from resources.checkpoints import CheckpointStore, Kind
from resources.layout import Home
from resources.settings import Settings
from resources.vintages import has_vintages, is_template, vintage_of, vintages_until

# The weights without which a built-in model cannot forecast.
WEIGHTS: dict[str, Kind] = {KRONOS: "kronos_predictor", CHRONOS2: "chronos2_model", VOLATILITY: "volatility_model"}


def usable_vintages(model: str, settings: Settings, checkpoints: CheckpointStore) -> list[date | None]:
    """The vintages of a model that can forecast, oldest first; [None]: it has no vintages; empty: it has no weights."""
    if model in WEIGHTS:
        return trained_vintages(WEIGHTS[model], settings, checkpoints)
    reads = settings.models[model].reads if model in settings.models else ()
    trained = [trained_vintages(WEIGHTS[one], settings, checkpoints) for one in reads]
    published: list[date | None] = [None]
    if is_by_vintage(model, settings):
        published = [*vintages_until(settings.windows, settings.market.end or date.today())]
    return [one for one in published if all(one in known for known in trained)]


def is_by_vintage(model: str, settings: Settings) -> bool:
    """Whether a model has vintages: those that are trained or estimated, and plug-ins that read them or name weights by
    vintage."""
    if not has_vintages(settings.windows):
        return False
    if model not in settings.models:
        return model in WEIGHTS or model in ESTIMATED
    plugin = settings.models[model]
    return bool(plugin.reads) or any(map(is_template, plugin.options.values()))


def trained_vintages(kind: Kind, settings: Settings, checkpoints: CheckpointStore) -> list[date | None]:
    """The vintages whose checkpoints are in use, oldest first; [None]: there are no vintages, and one is in use."""
    if not has_vintages(settings.windows):
        return [None] if checkpoints.current_digest(kind) else []
    stored = checkpoints.vintages(kind)
    # A home may hold vintages of other settings.
    return [one for one in vintages_until(settings.windows, stored[-1]) if one in stored] if stored else []


def newest_store(kind: Kind, settings: Settings) -> CheckpointStore:
    """The checkpoints of the home, with those in use of the newest vintage of a kind if there are vintages."""
    store = CheckpointStore(Home(settings.home))
    return store.at(max(filter(None, trained_vintages(kind, settings, store)), default=None))


def tasks_by_vintage(settings: Settings, tasks: Sequence[ForecastTask]) -> dict[date | None, list[ForecastTask]]:
    """The tasks of each vintage, in their order; all under None if there are no vintages.

    Raises:
        CandlecastError: a task is before the first vintage.
    """
    found: dict[date | None, list[ForecastTask]] = {}
    known: dict[date, date | None] = {}
    for task in tasks:
        session: date = task.history.days[task.index].astype(object)
        if session not in known:
            known[session] = vintage_of(settings.windows, session)
        found.setdefault(known[session], []).append(task)
    return found
