"""The jobs: which assets are materialised together.

https://docs.dagster.io/guides/build/jobs. Not here: when (schedules, sensors), and how the command line shows a run
(orchestration.cli).
"""

from typing import Any, Literal, TypeAlias

import dagster as dg

from assets.forecasts.embeddings_asset import GROUP as EMBEDDINGS
from assets.market.checks import gate
from assets.sessions import Vintages, vintage_partitions
from assets.training.model_selection.promotion import PROMOTED
from orchestration.freshness import check_keys
from resources.settings import Settings
from resources.vintages import has_vintages

# The type that define_asset_job returns has no public name.
Job: TypeAlias = Any
JobName = Literal["ingest", "train", "forecast", "backtest", "daily", "everything"]

# Objects, not strings of the selection syntax: its parser takes a tenth of the time of loading the definitions.
SELECTIONS: dict[JobName, dg.AssetSelection] = {
    "ingest": dg.AssetSelection.groups("market"),
    "train": dg.AssetSelection.groups("training"),
    "forecast": dg.AssetSelection.groups("forecasts", "evaluation"),
    "backtest": dg.AssetSelection.groups("backtests"),
    "daily": dg.AssetSelection.groups("market", "forecasts", "evaluation"),
    # Examples are simulated series: they are materialised on request alone.
    "everything": dg.AssetSelection.all() - dg.AssetSelection.groups("examples"),
}
DESCRIPTIONS: dict[JobName, str] = {
    "ingest": "Ingest new and changed bars into the lake and the warehouse. A range of sessions is one run.",
    "train": "Build training windows, then fit the Kronos tokenizer and predictor, Chronos-2 and the volatility model.",
    "forecast": "Forecast the sessions' origins with every model and baseline, score forecasts, update the scoreboard.",
    "backtest": "Compute signals, write the Qlib provider, run the backtests, publish the report.",
    "daily": "After a session closes: its bars, its forecasts, and the scores of forecasts whose target it is.",
    "everything": "The whole chain, from source to report.",
}


def build_jobs(settings: Settings, sessions: dg.DailyPartitionsDefinition) -> dict[JobName, Job]:
    """Every job by name; those with partitioned assets are partitioned by session, training by vintage if there are.

    A job has partitions of one kind: with vintages `everything` leaves the training to `train`.
    """
    partitions: dict[JobName, Vintages | None] = {"train": vintage_partitions(settings), "backtest": None}
    return {
        name: dg.define_asset_job(
            name,
            selection=_with_gates(name, _selection(name, settings), settings),
            description=DESCRIPTIONS[name],
            partitions_def=partitions.get(name, sessions),
        )
        for name in SELECTIONS
    }


def _selection(name: JobName, settings: Settings) -> dg.AssetSelection:
    """The assets of a job. Embeddings are made by request, or daily if the settings say so."""
    embeddings, selection = dg.AssetSelection.groups(EMBEDDINGS), SELECTIONS[name]
    if name == "everything" and not settings.embeddings.daily:
        selection -= embeddings
    if name == "daily" and settings.embeddings.daily:
        selection |= embeddings
    return without_training(selection) if has_vintages(settings.windows) and name != "train" else selection


def without_training(selection: dg.AssetSelection) -> dg.AssetSelection:
    """A selection without the assets that vintages partition."""
    return selection - SELECTIONS["train"]


def without_freshness(selection: dg.AssetSelection, settings: Settings) -> dg.AssetSelection:
    """A selection without the checks of the newest session: a run over history says nothing about it."""
    return selection - dg.AssetSelection.checks(*check_keys(settings))


def _with_gates(name: JobName, selection: dg.AssetSelection, settings: Settings) -> dg.AssetSelection:
    """A selection, with the checks of what it uses and does not make: the market's, and that no champion is expired."""
    if name != "daily":
        selection = without_freshness(selection, settings)
    if name in ("train", "forecast", "backtest"):
        selection |= gate()
    if name in ("forecast", "daily"):
        selection |= dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey([k]), "is_not_expired") for k in PROMOTED))
    return selection
