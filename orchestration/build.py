"""The definitions of the code location: `build_defs`. A test or the command line gets a fresh `Definitions` of its own.

https://docs.dagster.io/api/dagster/definitions. Nothing is wired anywhere else. Assets, checks, schedules and sensors
share one resource, `candlecast`.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.backtests.assets import build_assets as backtest_assets
from assets.evaluation.assets import build_assets as evaluation_assets
from assets.evaluation.risk.assets import build_assets as risk_assets
from assets.examples.assets import build_assets as example_assets
from assets.forecasts.assets import build_assets as forecast_assets
from assets.market.assets import build_assets as market_assets
from assets.sessions import session_partitions, vintage_partitions
from assets.training.assets import build_assets as training_assets
from orchestration.freshness import build_checks
from orchestration.jobs import build_jobs
from orchestration.resources import RESOURCE, CandlecastResource
from orchestration.schedules import build_schedules
from orchestration.sensors import build_sensors
from resources.candlecast import Candlecast
from resources.profiles import load_settings
from resources.settings import Settings

# Backfill policies have been in beta for years; the warning at every asset tells a reader nothing.
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def build_defs(
    *,
    settings: Settings | None = None,
    resource_overrides: Mapping[str, Any] | None = None,
    loggers: Mapping[str, dg.LoggerDefinition] | None = None,
) -> dg.Definitions:
    """The code location.

    Args:
        settings: none: from the settings file and the environment, loaded again at the start of each run.
        resource_overrides: resources to exchange, by name: `{"candlecast": Candlecast(settings, source=...)}`.
        loggers: further loggers of runs, by name.

    Raises:
        SettingsError: the settings are refused.
    """
    loaded = settings or load_settings()
    own = Candlecast(loaded)
    resources = {RESOURCE: own if settings else CandlecastResource.of(loaded), **(resource_overrides or {})}
    candlecast = resources[RESOURCE] if isinstance(resources[RESOURCE], Candlecast) else own
    sessions = session_partitions(candlecast.settings, candlecast.home)
    jobs = build_jobs(candlecast.settings, sessions)
    built = [
        *market_assets(sessions),
        *training_assets(sessions, vintage_partitions(candlecast.settings)),
        *forecast_assets(candlecast.settings, sessions),
        *evaluation_assets(candlecast.settings, sessions),
        *risk_assets(candlecast.settings),
        *backtest_assets(candlecast.settings, sessions),
        *example_assets(),
    ]
    checks = [item for item in built if isinstance(item, dg.AssetChecksDefinition)]
    return dg.Definitions(
        assets=[item for item in built if item not in checks],
        asset_checks=[*checks, *build_checks(candlecast.settings, sessions)],
        jobs=list(jobs.values()),
        schedules=build_schedules(candlecast, sessions, jobs),
        sensors=build_sensors(candlecast, sessions),
        resources=resources,
        loggers=loggers,
        executor=dg.in_process_executor,
    )
