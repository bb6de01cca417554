"""Commands that materialise assets: run, backfill, forecast, score, rebuild."""

from datetime import datetime
from typing import Annotated

import typer

from orchestration.cli.session import AsJson, CommandSession, HomeFolder, Profile, SettingsFile

DATE = ["%Y-%m-%d"]


def run(settings: SettingsFile = None, profile: Profile = None, home: HomeFolder = None, json_: AsJson = False) -> None:
    """Run the whole pipeline: bars, models, forecasts, scores, backtests, report."""
    with CommandSession(settings, profile, home, json_) as session:
        session.finish(session.pipeline().run())


def backfill(
    from_: Annotated[datetime, typer.Option("--from", formats=DATE, help="First session.")],
    to: Annotated[datetime, typer.Option("--to", formats=DATE, help="Last session.")],
    assets: Annotated[str, typer.Option(help="Dagster's asset selection syntax.")] = "group:market",
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Materialise assets for a range of sessions. Missing or stale upstream assets come first."""
    with CommandSession(settings, profile, home, json_) as session:
        session.finish(session.pipeline().backfill(from_.date(), to.date(), assets))


def forecast(
    origin: Annotated[
        datetime | None, typer.Option(formats=DATE, help="Session to forecast from. Default: the newest with bars.")
    ] = None,
    symbols: Annotated[list[str] | None, typer.Option(help="Only these; repeat, or separate by commas.")] = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Forecast from one session with every model and baseline, and print the quantiles."""
    requested = [one.strip() for item in symbols or [] for one in item.split(",") if one.strip()]
    with CommandSession(settings, profile, home, json_) as session:
        session.finish(session.pipeline().forecast(origin.date() if origin else None, requested))


def score(
    settings: SettingsFile = None, profile: Profile = None, home: HomeFolder = None, json_: AsJson = False
) -> None:
    """Score every forecast whose actuals exist, and update the scoreboard."""
    with CommandSession(settings, profile, home, json_) as session:
        session.finish(session.pipeline().score())


def rebuild(
    settings: SettingsFile = None, profile: Profile = None, home: HomeFolder = None, json_: AsJson = False
) -> None:
    """Rebuild the market tables of the warehouse from the lake, in one transaction."""
    with CommandSession(settings, profile, home, json_) as session:
        session.finish(session.pipeline().rebuild())
