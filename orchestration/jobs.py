"""The jobs: one a use.

https://docs.dagster.io/guides/build/jobs. Belongs here: which assets are made together. Not here: when (schedules,
sensors) or how a terminal shows it (orchestration.cli.headless).
"""

from typing import Any, Literal, TypeAlias

import dagster as dg

from assets.training.model_selection.promotion import PROMOTED

# What define_asset_job returns has no public name.
Job: TypeAlias = Any
JobName = Literal["ingest", "train", "forecast", "backtest", "daily", "everything"]

SELECTIONS: dict[JobName, str] = {
    "ingest": "group:market",
    "train": "group:training",
    "forecast": "group:forecasts or group:evaluation",
    "backtest": "group:backtests",
    "daily": "group:market or group:forecasts or group:evaluation",
    "everything": "*",
}
PURPOSES: dict[JobName, str] = {
    "ingest": "New and changed bars into the lake and the warehouse. A range of sessions is one run.",
    "train": "Training windows, then the Kronos tokenizer, then the predictor, and Chronos-2.",
    "forecast": "Forecasts of every model and baseline from the sessions' origins, their scores, the scoreboard.",
    "backtest": "Signals, Qlib's provider, the backtests and the report.",
    "daily": "After a session closes: its bars, its forecasts, and the scores of what it made true.",
    "everything": "The whole chain, from files to the report.",
}


def build_jobs(sessions: dg.DailyPartitionsDefinition) -> dict[JobName, Job]:
    """Every job, by name. Those that touch sessions are partitioned by them."""
    return {
        name: dg.define_asset_job(
            name,
            selection=_with_expiry(selection) if name in ("forecast", "daily") else selection,
            description=PURPOSES[name],
            partitions_def=None if name in ("train", "backtest") else sessions,
        )
        for name, selection in SELECTIONS.items()
    }


def _with_expiry(selection: str) -> dg.AssetSelection:
    """What is selected, and whether the champions that forecast are young enough: nobody trains when they grow old."""
    ages = [dg.AssetCheckKey(dg.AssetKey([kind]), "is_not_expired") for kind in PROMOTED]
    return dg.AssetSelection.from_string(selection) | dg.AssetSelection.checks(*ages)
