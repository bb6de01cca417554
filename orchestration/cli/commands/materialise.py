"""Commands that materialise assets: run, backfill, train, forecast, score, backtest, rebuild."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.session import AsJson, CommandSession, Device, HomeFolder, Profile, SettingsFile, reject

DATE = ["%Y-%m-%d"]
MODELS = ("kronos", "chronos2", "volatility")


def run(
    assets: Annotated[
        str | None,
        typer.Option(help="Dagster's asset selection syntax, such as group:examples. Default: all others."),
    ] = None,
    device: Device = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Run the whole pipeline: bars, models, forecasts, scores, backtests, report; or the assets of a selection."""
    with CommandSession(settings, profile, home, json_, device=device) as session:
        session.finish(session.pipeline().run(assets))


def backfill(
    from_: Annotated[datetime, typer.Option("--from", formats=DATE, help="First session.")],
    to: Annotated[datetime, typer.Option("--to", formats=DATE, help="Last session.")],
    assets: Annotated[str, typer.Option(help="Dagster's asset selection syntax.")] = "group:market",
    device: Device = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Materialise assets for a range of sessions. Missing or stale upstream assets come first."""
    with CommandSession(settings, profile, home, json_, device=device) as session:
        session.finish(session.pipeline().backfill(from_.date(), to.date(), assets))


def train(
    model: Annotated[
        list[str] | None, typer.Option(help="kronos, chronos2 or volatility; repeat. Default: all.")
    ] = None,
    device: Device = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Ingest new bars, build training windows, fit the models, and compare each with its champion."""
    unknown = [one for one in model or [] if one not in MODELS]
    if unknown:
        reject(f"--model {unknown[0]}: allowed: {', '.join(MODELS)}")
    with CommandSession(settings, profile, home, json_, device=device) as session:
        session.finish(session.pipeline().train(model or MODELS))


def forecast(
    origin: Annotated[
        datetime | None, typer.Option(formats=DATE, help="Session to forecast from. Default: the newest with bars.")
    ] = None,
    symbols: Annotated[list[str] | None, typer.Option(help="Only these; repeat, or separate by commas.")] = None,
    csv: Annotated[
        Path | None, typer.Option(help="File for all quantiles: every step, field and level as CSV.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="File for fan charts as PNG.")] = None,
    device: Device = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Forecast from one session with every model and baseline, and print the quantiles."""
    requested = [one.strip() for item in symbols or [] for one in item.split(",") if one.strip()]
    session = CommandSession(settings, profile, home, json_, device=device)
    from assets.forecasting.companion import start_companion

    # It imports torch while this process imports Dagster and reads the warehouse.
    start_companion(session.settings)
    with session:
        from orchestration.cli.forecast_files import ForecastFiles

        files = ForecastFiles(csv, plot)
        if problem := files.problem():
            reject(problem)
        session.finish(session.pipeline().forecast(origin.date() if origin else None, requested, files))


def score(
    settings: SettingsFile = None, profile: Profile = None, home: HomeFolder = None, json_: AsJson = False
) -> None:
    """Score every forecast whose actuals exist, and update the scoreboard."""
    with CommandSession(settings, profile, home, json_) as session:
        session.finish(session.pipeline().score())


def backtest(
    device: Device = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Score the stored forecasts, backtest every model on them, and publish the report."""
    with CommandSession(settings, profile, home, json_, device=device) as session:
        session.finish(session.pipeline().backtest())


def rebuild(
    settings: SettingsFile = None, profile: Profile = None, home: HomeFolder = None, json_: AsJson = False
) -> None:
    """Rebuild the market tables of the warehouse from the lake, in one transaction."""
    with CommandSession(settings, profile, home, json_) as session:
        session.finish(session.pipeline().rebuild())
