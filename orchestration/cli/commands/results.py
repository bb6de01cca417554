"""Commands that read results: report, lineage, query."""

import sys
from typing import Annotated

import typer

from orchestration.cli.session import AsJson, CommandSession, HomeFolder, Profile, SettingsFile, reject

FORMATS = ("table", "csv", "json")


def report(
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Print the path of the newest report."""
    with CommandSession(settings, profile, home, json_, show_progress=False) as session:
        from orchestration.cli.artifacts import newest_report

        found = newest_report(session.settings)
        if open_:
            typer.launch(found["report"])
        session.finish(found, text=found["report"])


def lineage(
    asset_or_digest: str,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Trace an asset, or a digest of anything, back to its source files."""
    with CommandSession(settings, profile, home, json_, show_progress=False) as session:
        from orchestration.cli.lineage_tree import as_text, lineage_of

        node = lineage_of(session.settings, asset_or_digest)
        session.finish(node.as_json(), text=as_text(node))


def query(
    sql: str,
    format_: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Query the warehouse, read-only. Works while another command is running."""
    output = "json" if json_ else format_
    if output not in FORMATS:
        reject(f"--format {output}: allowed: {', '.join(FORMATS)}")
    with CommandSession(settings, profile, home, json_, show_progress=False) as session:
        from orchestration.cli.query import run_query

        sys.stdout.write(run_query(session.settings, sql, output))
