"""The command on any series: predict. It needs neither a home nor a settings file."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli.session import FAILED, AsJson, CommandSession, Device, HomeFolder, Profile, SettingsFile, reject
from resources.errors import CandlecastError
from resources.quantile_levels import OPTION, require_levels

if TYPE_CHECKING:
    from assets.forecasting.series_forecast import SeriesForecast

FORMATS = ("table", "csv", "json")
RESAMPLE = ("mean", "sum", "last", "first")
Columns = list[str] | None
_REPEAT = "repeat, or separate by commas"


def predict(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet: a row per series and timestamp, or a column each.")],
    horizon: Annotated[int | None, typer.Option(min=1, help="Steps to forecast after the last value.")] = None,
    target: Annotated[
        Columns, typer.Option(help=f"Columns to forecast, together unless --wide; {_REPEAT}. Default: inferred.")
    ] = None,
    past: Annotated[Columns, typer.Option(help=f"Covariates of which only the past is known; {_REPEAT}.")] = None,
    future: Annotated[
        Path | None, typer.Option(help="File of the covariates that are known in advance, by timestamp and id.")
    ] = None,
    known: Annotated[
        Columns, typer.Option(help=f"Covariates that are known in advance; {_REPEAT}. Default: those of --future.")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="Column of the series' ids. Default: inferred.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="Column of the timestamps. Default: inferred.")] = None,
    wide: Annotated[bool | None, typer.Option("--wide/--long", help="A column per series? Default: inferred.")] = None,
    categorical: Annotated[Columns, typer.Option(help=f"Covariates that are categories; {_REPEAT}.")] = None,
    frequency: Annotated[
        str | None, typer.Option(help="Such as 15min, h, D, B (weekdays), W-MON, MS, ME. Default: inferred.")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="Zone of the timestamps, such as Europe/Berlin.")] = None,
    date_format: Annotated[str | None, typer.Option(help="Such as '%d/%m/%Y %H:%M'; or excel, epoch, number.")] = None,
    resample: Annotated[
        str | None, typer.Option(help=f"Make one row of each interval of --frequency: {', '.join(RESAMPLE)}.")
    ] = None,
    levels: Annotated[str, typer.Option(help="Quantile levels, separated by commas.")] = "0.1,0.5,0.9",
    model: Annotated[
        str,
        typer.Option(
            help="packaged (compact weights), a hub id with @revision if wanted, chronos2 (the checkpoint in use), a "
            "folder of weights, a forecaster of the settings, naive, or seasonal_naive."
        ),
    ] = "packaged",
    holdout: Annotated[int, typer.Option(min=0, help="Hold out the last N values, forecast and score them.")] = 0,
    season: Annotated[
        int | None, typer.Option(min=1, help="Steps of a season, of the seasonal naive forecast. Default: inferred.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the forecasts: .csv, .parquet or .json.")] = None,
    format_: Annotated[str, typer.Option("--format", help="On the terminal: table, csv or json.")] = "table",
    plot: Annotated[Path | None, typer.Option(help="File for fan charts as PNG.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Exit status 0 though series were rejected.")] = False,
    device: Device = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Forecast the series of a file, of any kind, with quantiles.

    Exit status 1: a series could not be forecast, or not be scored; the others are.
    """
    if horizon is None and not holdout:
        reject("--horizon N is needed: the steps to forecast; or --holdout N, to score forecasts of the last N values")
    if format_ not in FORMATS:
        reject(f"--format {format_}: allowed: {', '.join(FORMATS)}")
    if resample is not None and resample not in RESAMPLE:
        reject(f"--resample {resample}: allowed: {', '.join(RESAMPLE)}")
    wanted = _levels(levels)
    with CommandSession(_settings_file(settings), profile, home, json_, device=device) as session:
        from assets.forecasting.series.files import read_table
        from assets.forecasting.series_forecast import SeriesRequest, forecast_series
        from orchestration.cli.series_files import file_problem

        if problem := file_problem(out, plot, [file, *filter(None, [future])]):
            reject(problem)
        table, ahead = read_table(file), None if future is None else read_table(future)
        request = SeriesRequest(
            target=_columns(target, table.columns),
            horizon=horizon or 0,
            past=_columns(past, table.columns),
            known=_columns(known, table.columns),
            id=id_,
            timestamp=timestamp,
            wide=wide,
            categorical=_columns(categorical, table.columns),
            frequency=frequency,
            timezone=timezone,
            date_format=date_format,
            resample=resample,  # type: ignore[arg-type]
            levels=wanted,
            model=model,
            season=season,
            holdout=holdout,
        )
        with session.work("predict") as progress:
            forecast = forecast_series(table, request, ahead, session.settings, progress)
        _report(session, forecast, wanted, out, plot, format_, skip_bad)


def _report(
    session: CommandSession,
    forecast: "SeriesForecast",
    levels: Sequence[float],
    out: Path | None,
    plot: Path | None,
    format_: str,
    skip_bad: bool,
) -> None:
    """Results on stdout; which model made them, and what else must be known, on stderr unless the format has it."""
    from orchestration.cli import series_files

    bad = forecast.rejected or forecast.not_scored
    ok = not bad or (skip_bad and not forecast.quantiles.empty)
    lines = [] if forecast.quantiles.empty else series_files.write_files(forecast, levels, out, plot)
    rejected = [
        f"{what}: {one}: {reason}"
        for what, reasons in (("not forecast", forecast.rejected), ("not scored", forecast.not_scored))
        for one, reason in reasons.items()
    ]
    if session.as_json:
        session.finish({"ok": ok, **_as_json(forecast)})
    else:
        if out is None and not forecast.quantiles.empty:
            sys.stdout.write(series_files.FORMATS[format_](forecast.quantiles))
        scores = (
            [] if forecast.scores is None or forecast.scores.empty else ["", series_files.score_table(forecast.scores)]
        )
        about = [f"model: {forecast.about.text}; frequency {forecast.frequency}, season {forecast.season}"]
        text = "\n".join([*scores, "", *about, *lines]) + "\n"
        (sys.stdout if format_ == "table" or out is not None else sys.stderr).write(text)
        for one in [
            *series_files.remarks([f"note: {note}" for note in forecast.notes]),
            *series_files.remarks(rejected),
        ]:
            sys.stderr.write(f"{one}\n")
    if not ok:
        raise typer.Exit(FAILED)


def _as_json(forecast: "SeriesForecast") -> dict[str, Any]:
    from dataclasses import asdict

    from orchestration.cli.series_files import as_records

    return {
        "model": asdict(forecast.about),
        "frequency": forecast.frequency,
        "season": forecast.season,
        "forecasts": [] if forecast.quantiles.empty else as_records(forecast.quantiles),
        "scores": None if forecast.scores is None else forecast.scores.to_dict("records"),
        "rejected": {str(one): reason for one, reason in forecast.rejected.items()},
        "not_scored": {str(one): reason for one, reason in forecast.not_scored.items()},
        "notes": forecast.notes,
    }


def _settings_file(stated: Path | None) -> Path | None:
    """The settings file; where there is none, the one of the package, as in `sample`."""
    from resources.profiles import SETTINGS_FILE, has_settings, packaged_file

    return stated if stated is not None or has_settings() else packaged_file(SETTINGS_FILE)


def _levels(text: str) -> tuple[float, ...]:
    try:
        return require_levels([one.strip() for one in text.split(",")], OPTION)
    except CandlecastError as error:
        reject(str(error))


def _columns(stated: Columns, columns: Iterable[object]) -> list[str]:
    """The names of columns; a name with a comma is not split if there is such a column."""
    every = set(map(str, columns))
    parts = [[one] if one in every else one.split(",") for one in stated or []]
    return [name.strip() for part in parts for name in part if name.strip()]
