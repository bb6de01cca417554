"""Commands on weights and checkpoints: fetch, rollback, export."""

from pathlib import Path
from typing import Annotated

import typer

from orchestration.cli.session import AsJson, CommandSession, HomeFolder, Profile, SettingsFile, reject

CHAMPIONS = ("kronos_predictor", "chronos2_model", "volatility_model")
EXPORTS = ("kronos_predictor", "kronos_tokenizer", "chronos2_model", "volatility_model")


def fetch(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="tokenizer, predictor, chronos2, or OWNER/NAME[@REVISION]. Default: all of the profile."),
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Move to the newest commits of the revisions.")] = False,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Download the published weights that the profile names, verify them, and pin their commits.

    Resumes an interrupted download. Later runs use the pinned commits and need no network.
    """
    with CommandSession(settings, profile, home, json_, show_progress=False) as session:
        from orchestration.cli.fetch import fetch

        session.finish(fetch(session.settings, models or [], update))


def rollback(
    kind: Annotated[str, typer.Argument(help=" or ".join(CHAMPIONS))],
    to: Annotated[str | None, typer.Option(help="A checkpoint's digest or its beginning.")] = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Make the previous champion, or the checkpoint of --to, the champion again, and record the decision."""
    if kind not in CHAMPIONS:
        reject(f"{kind}: allowed: {', '.join(CHAMPIONS)}")
    with CommandSession(settings, profile, home, json_, show_progress=False) as session:
        from orchestration.cli.artifacts import rollback_champion

        session.finish(rollback_champion(session.settings, kind, to))


def export(
    kind: Annotated[str, typer.Argument(help="kronos_predictor, kronos_tokenizer, chronos2_model or volatility_model")],
    to: Annotated[Path, typer.Option(help="A folder; the model and its tokenizer become new folders in it.")],
    digest: Annotated[str | None, typer.Option(help="A checkpoint other than the champion.")] = None,
    push: Annotated[str | None, typer.Option(help="USER/NAME: upload to the hub as well, private.")] = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Copy the champion into folders that the authors' package, transformers and kronos/ load."""
    if kind not in EXPORTS:
        reject(f"{kind}: allowed: {', '.join(EXPORTS)}")
    with CommandSession(settings, profile, home, json_, show_progress=False) as session:
        from orchestration.cli.artifacts import export_champion

        session.finish(export_champion(session.settings, kind, to, digest, push))
