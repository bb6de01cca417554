"""Assembles everything, once: `build_defs`. A test or the command line gets a fresh `Definitions` of its own.

https://docs.dagster.io/api/dagster/definitions. Nothing is wired anywhere else; no stage knows of another's resources.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.backtests.assets import build_assets as backtest_assets
from assets.evaluation.assets import build_assets as evaluation_assets
from assets.forecasts.assets import build_assets as forecast_assets
from assets.market.assets import build_assets as market_assets
from assets.sessions import session_partitions
from assets.training.assets import build_assets as training_assets
from orchestration.jobs import build_jobs
from orchestration.schedules import build_schedules
from orchestration.sensors import build_sensors
from resources.calendar import TradingCalendar
from resources.checkpoints import CheckpointStore
from resources.layout import Home
from resources.settings import Settings, load_settings
from resources.sources.registry import build_source
from resources.warehouse import Warehouse

# Backfill policies have been in beta for years; the warning at every asset tells a reader nothing.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

STAGES = (market_assets, training_assets, forecast_assets, evaluation_assets, backtest_assets)


def build_resources(settings: Settings) -> dict[str, Any]:
    """Every resource, by the name that assets ask for."""
    home = Home(settings.home)
    return {
        "settings": settings,
        "home": home,
        "warehouse": Warehouse.of(settings),
        "checkpoints": CheckpointStore(home),
        "calendar": TradingCalendar(settings.market.calendar, settings.market.frequency),
        "source": build_source(settings),
    }


def build_defs(
    *,
    settings: Settings | None = None,
    resource_overrides: Mapping[str, Any] | None = None,
    loggers: Mapping[str, dg.LoggerDefinition] | None = None,
) -> dg.Definitions:
    """The code location.

    Args:
        settings: none: from the file and the environment.
        resource_overrides: resources to exchange, by name.
        loggers: who else listens to runs.

    Raises:
        SettingsError: the settings are refused.
    """
    settings = settings or load_settings()
    resources = {**build_resources(settings), **(resource_overrides or {})}
    calendar = resources["calendar"]
    sessions = session_partitions(settings, calendar)
    jobs = build_jobs(sessions)
    made = [item for stage in STAGES for item in stage(sessions)]
    checks = [item for item in made if isinstance(item, dg.AssetChecksDefinition)]
    return dg.Definitions(
        assets=[item for item in made if item not in checks],
        asset_checks=checks,
        jobs=list(jobs.values()),
        schedules=build_schedules(settings, calendar, sessions, jobs),
        sensors=build_sensors(settings, calendar, sessions),
        resources=resources,
        loggers=loggers,
        executor=dg.in_process_executor,
    )
