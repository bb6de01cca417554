"""Commands on the machine and the settings: doctor, settings, ui."""

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from orchestration.cli.session import FAILED, AsJson, CommandSession, HomeFolder, Profile, SettingsFile, reject


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Set aside what is damaged in the home, and make it again.")
    ] = False,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Check versions, device, weights, data, and every stored artifact, with a remedy for each failure."""
    with CommandSession(settings, profile, home, json_, show_progress=repair) as session:
        if repair:
            from orchestration.cli.repair import repair_home

            session.finish(repair_home(session.settings, session.pipeline()))
            return
        from orchestration.cli.dagster_records import dagster_records
        from resources.layout import Home

        # Dagster's databases are read while the other checks are imported.
        with ThreadPoolExecutor(1) as pool:
            records = pool.submit(lambda: list(dagster_records(Home(session.settings.home))))
            from orchestration.cli.doctor import diagnose

            results = diagnose(session.settings, records.result)
        ok = all(result.ok for result in results)
        text = "\n".join(result.as_line() for result in results)
        session.finish({"ok": ok, "checks": [result.as_json() for result in results]}, text=text)
        if not ok:
            raise typer.Exit(FAILED)


def settings(
    key: Annotated[str, typer.Argument(help="A key such as market.max_rejected, or a section. Default: all.")] = "",
    file: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
    json_: AsJson = False,
) -> None:
    """Explain the keys of the settings: value in use, default, allowed values, meaning."""
    with CommandSession(file, profile, home, json_, show_progress=False) as session:
        from orchestration.cli.settings_keys import explain

        found = explain(session.settings, key)
        if not found:
            reject(f"{key}: no such key or section; `candlecast settings` lists all")
        session.finish({"settings": [one.as_json() for one in found]}, "\n".join(one.text for one in found))


def ui(
    host: Annotated[
        str, typer.Option(help="Dagster's webserver has no login: keep it local, or behind a proxy.")
    ] = "127.0.0.1",
    port: int = 3000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A further name of this server, such as a proxy's; repeat. Other hosts and sites get 403."),
    ] = None,
    settings: SettingsFile = None,
    profile: Profile = None,
    home: HomeFolder = None,
) -> None:
    """Open Dagster: the graph, the assets' pages, runs, schedules and sensors."""
    with CommandSession(settings, profile, home, False, show_progress=False) as session:
        from orchestration.cli.ui import serve

        serve(session.settings, host, port, allow_host or [], session.file)
