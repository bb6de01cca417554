"""The command line: the same jobs as in the UI, headless.

`--help` must answer at once, so nothing heavy is imported before a command runs. Exit status: 0 success, 1 failure of
the work, 2 wrong use (settings included), 130 stopped.
"""

import json
import os
import signal
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from orchestration.cli.interrupts import interruptions

INTERRUPTED = 130

app = typer.Typer(
    help="Raw market bars in; validated data, forecasts and honest backtests out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SettingsFile = Annotated[Path | None, typer.Option("--settings", help="Settings file [CANDLECAST_SETTINGS].")]
Profile = Annotated[str | None, typer.Option("--profile", help="Profile in it [CANDLECAST_PROFILE].")]
HomeFolder = Annotated[Path | None, typer.Option("--home", help="Where everything lives [CANDLECAST_HOME].")]
AsJson = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]


@app.command()
def run(settings: SettingsFile = None, profile: Profile = None, home: HomeFolder = None, json_: AsJson = False) -> None:
    """Build the whole chain: bars, models, forecasts, scores, backtests, report."""
    with _Session(settings, profile, home, json_) as session:
        session.finish(session.chain().everything())


@app.command()
def backfill(
    from_: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First session.")],
    to: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last session.")],
    assets: Annotated[str, typer.Option(help="Dagster's asset selection syntax.")] = "group:market",
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Make a range of sessions, in one run. What is missing or stale upstream is made first."""
    with _Session(settings, profile, home, json_) as session:
        session.finish(session.chain().backfill(from_.date(), to.date(), assets))


@app.command()
def forecast(
    origin: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Session to forecast from; none: the newest bar's.")
    ] = None,
    symbols: Annotated[list[str] | None, typer.Option(help="Only these; repeat, or separate by commas.")] = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Forecast from one session with every model and baseline, and show the quantiles."""
    wanted = [one.strip() for item in symbols or [] for one in item.split(",") if one.strip()]
    with _Session(settings, profile, home, json_) as session:
        session.finish(session.chain().forecast(origin.date() if origin else None, wanted))


@app.command()
def score(
    settings: SettingsFile = None, profile: Profile = None, home: HomeFolder = None, json_: AsJson = False
) -> None:
    """Score every forecast whose truth is here, and renew the scoreboard."""
    with _Session(settings, profile, home, json_) as session:
        session.finish(session.chain().score())


@app.command()
def report(
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Print where the newest report is."""
    with _Session(settings, profile, home, json_, show=False) as session:
        from orchestration.cli.chain import newest_report

        found = newest_report(session.settings)
        if open_:
            typer.launch(found["report"])
        session.finish(found, text=found["report"])


@app.command()
def lineage(
    asset_or_digest: str,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Trace an asset, or anything by its digest, back to the files it came from."""
    with _Session(settings, profile, home, json_, show=False) as session:
        from orchestration.cli.chain import lineage_of
        from orchestration.cli.lineage_tree import as_text

        node = lineage_of(session.settings, asset_or_digest)
        session.finish(node.as_json(), text=as_text(node))


@app.command()
def query(
    sql: str,
    format_: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Read from the warehouse. Works while a run is at work; cannot write."""
    shape = "json" if json_ else format_
    if shape not in ("table", "csv", "json"):
        _wrong_use(f"--format {shape}: allowed: table, csv, json")
    with _Session(settings, profile, home, json_, show=False) as session:
        from orchestration.cli.query import answer

        sys.stdout.write(answer(session.settings, sql, shape))


@app.command()
def rollback(
    kind: Annotated[str, typer.Argument(help="kronos_predictor or chronos2_model")],
    to: Annotated[
        str | None, typer.Option(help="A checkpoint's digest or its beginning, such as one that was rolled back.")
    ] = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Put the champion before the present one in use again, or the one --to names, and write it down."""
    if kind not in ("kronos_predictor", "chronos2_model"):
        _wrong_use(f"{kind}: allowed: kronos_predictor, chronos2_model")
    with _Session(settings, profile, home, json_, show=False) as session:
        from orchestration.cli.chain import roll_back

        session.finish(roll_back(session.settings, kind, to))


@app.command()
def export(
    kind: Annotated[str, typer.Argument(help="kronos_predictor, kronos_tokenizer or chronos2_model")],
    to: Annotated[Path, typer.Option(help="A folder; the model and its tokenizer become new folders in it.")],
    digest: Annotated[str | None, typer.Option(help="Another than the one in use.")] = None,
    push: Annotated[str | None, typer.Option(help="USER/NAME: upload to the hub as well, private.")] = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Copy the champion as folders that the authors' package, transformers and kronos/ load."""
    if kind not in ("kronos_predictor", "kronos_tokenizer", "chronos2_model"):
        _wrong_use(f"{kind}: allowed: kronos_predictor, kronos_tokenizer, chronos2_model")
    with _Session(settings, profile, home, json_, show=False) as session:
        from orchestration.cli.chain import export_champion

        session.finish(export_champion(session.settings, kind, to, digest, push))


@app.command()
def doctor(
    settings: SettingsFile = None, profile: Profile = None, home: HomeFolder = None, json_: AsJson = False
) -> None:
    """Check versions, device, hub cache, warehouse and calendar; say what to do."""
    with _Session(settings, profile, home, json_, show=False) as session:
        from orchestration.cli.doctor import examine

        findings = examine(session.settings)
        lines = [
            f"{'ok ' if f.ok else 'NO '} {f.check:<20} {f.found}" + (f"  → {f.remedy}" if f.remedy else "")
            for f in findings
        ]
        session.finish(
            {"ok": all(f.ok for f in findings), "checks": [f.as_json() for f in findings]}, text="\n".join(lines)
        )
        if not all(finding.ok for finding in findings):
            raise typer.Exit(1)


@app.command()
def ui(
    host: Annotated[
        str, typer.Option(help="Dagster's webserver has no login: keep it local, or behind a proxy.")
    ] = "127.0.0.1",
    port: int = 3000,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
) -> None:
    """Open Dagster: the graph, the assets' pages, runs, schedules and sensors."""
    with _Session(settings, profile, home, False, show=False) as session:
        from orchestration.cli.ui import serve

        serve(session.settings, host, port, session.file)


def main() -> None:
    """The entry point."""
    # A script's background jobs ignore Ctrl-C, and Dagster gives SIGTERM the same fate: nothing could stop a run.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with interruptions.listening():
        try:
            app()
        except SystemExit as end:
            if end.code == INTERRUPTED:
                # Native threads of what was interrupted may still be there; Python's own way out aborts on them.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(INTERRUPTED)
            raise


def _wrong_use(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    raise typer.Exit(2)


def _interruptions() -> tuple[type[BaseException], ...]:
    # Only where Dagster is loaded can its own interruption arrive.
    dagster = sys.modules.get("dagster")
    return (KeyboardInterrupt, dagster.DagsterExecutionInterruptedError) if dagster else (KeyboardInterrupt,)


def _told(error: BaseException | None, home: Path) -> str | None:
    """What a person is told in place of a traceback; none where the traceback is what helps."""
    from resources.errors import CandlecastError

    if isinstance(error, CandlecastError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error}; `candlecast doctor` checks the home"
    duckdb = sys.modules.get("duckdb")
    if duckdb and isinstance(error, duckdb.Error):
        return (
            f"the warehouse: {error}\nIf its file is damaged, restore it; or move it away, and `candlecast run` makes "
            "it again from the lake"
        )
    # Only where SQLAlchemy is loaded can an error of it arrive.
    sqlalchemy = sys.modules.get("sqlalchemy")
    if sqlalchemy and isinstance(error, sqlalchemy.exc.DBAPIError):
        held = "locked" in str(error.orig)
        hint = "Is another command or the UI at work there?" if held else "`candlecast doctor` checks the home"
        return f"Dagster's records in {home / 'dagster'}: {error.orig}. {hint}"
    return None


class _Session:
    """One command: settings in, progress on stderr, a result on stdout, an exit status."""

    def __init__(
        self, file: Path | None, profile: str | None, home: Path | None, as_json: bool, show: bool = True
    ) -> None:
        from resources.errors import SettingsError
        from resources.profiles import load_settings

        self.file = file
        self.as_json = as_json
        try:
            self.settings = load_settings(file, profile, home)
        except SettingsError as error:
            _wrong_use(str(error))
        self._show = show
        self._terminal: Any = None
        self._showing: Any = None

    def __enter__(self) -> "_Session":
        if self._show:
            from orchestration.cli.terminal import Terminal

            self._terminal = Terminal(quiet=self.as_json)
            self._showing = self._terminal.showing()
            self._showing.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._showing is not None:
            self._showing.__exit__(None, None, None)
        told = _told(error, self.settings.home)
        if told is not None:
            if self.as_json:
                sys.stdout.write(json.dumps({"ok": False, "error": told}) + "\n")
            else:
                sys.stderr.write(f"{told}\n")
            raise typer.Exit(1) from None
        if isinstance(error, _interruptions()):
            sys.stderr.write("\nstopped: what was finished stays, nothing is half-written; the same command goes on\n")
            raise typer.Exit(INTERRUPTED) from None

    def chain(self) -> Any:
        """The chain of these settings, shown on this terminal."""
        from orchestration.cli.chain import Chain

        return Chain(self.settings, self._terminal)

    def finish(self, result: dict[str, Any], text: str | None = None) -> None:
        """Print the result: JSON where asked for, else the text or its `text`."""
        if self.as_json:
            from orchestration.cli.query import finite

            result.pop("text", None)
            sys.stdout.write(json.dumps(finite({"ok": True, **result}), default=_plain) + "\n")
        else:
            sys.stdout.write((text if text is not None else result.get("text", "")) + "\n")


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else str(value)
