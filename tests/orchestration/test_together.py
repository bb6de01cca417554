"""The UI's runs, the daily run and the command line at work in one home at once: all end well, no row is lost."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from chain_world import World

pytestmark = pytest.mark.slow
ROUNDS = 2
PATIENCE = 240  # seconds, for a server to start and for runs to end
BARS = "FROM bars SELECT * EXCLUDE (available_at, batch) ORDER BY ALL"
QUANTILES = "FROM forecast_quantiles ORDER BY ALL"
SERVED = "{repositoriesOrError {... on RepositoryConnection {nodes {name location {name}}}}}"
LAUNCH = """
mutation ($launch: ExecutionParams!) {
  launchRun(executionParams: $launch) {__typename ... on LaunchRunSuccess {run {runId}}}
}
"""
STATUS = "query ($run: ID!) {runOrError(runId: $run) {... on Run {status}}}"


class Ui:
    """Dagster's own interface, asked as its pages ask it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.selector: dict[str, str] = {}

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "errors" not in told, told
        return told["data"]

    def wait_until_served(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and process.poll() is None:
            try:
                for node in self.ask(SERVED)["repositoriesOrError"]["nodes"]:
                    self.selector = {
                        "repositoryName": node["name"],
                        "repositoryLocationName": node["location"]["name"],
                    }
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise AssertionError("the UI did not start")

    def launch(self, job: str, first: str, last: str) -> str:
        span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        launch = {
            "selector": {**self.selector, "pipelineName": job},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in span.items()]},
            "runConfigData": {},
            "mode": "default",
        }
        launched = self.ask(LAUNCH, launch=launch)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]

    def ended(self, run: str) -> str:
        end = time.monotonic() + PATIENCE
        while (status := self.ask(STATUS, run=run)["runOrError"]["status"]) not in ("SUCCESS", "FAILURE", "CANCELED"):
            assert time.monotonic() < end, f"run {run} is still {status}"
            time.sleep(0.5)
        return status


@contextmanager
def ui_of(world: World) -> Iterator[Ui]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (world.folder / "ui.log").open("wb") as log:
        process = subprocess.Popen(
            world.command("ui", "--port", str(port)),
            env=world.environment(),
            cwd=world.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        ui = Ui(f"http://127.0.0.1:{port}")
        ui.wait_until_served(process)
        yield ui
    finally:
        # The whole group: Dagster's servers and workers are its children's children.
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, sign)
                process.wait(30)


def test_the_ui_the_daily_run_and_the_command_line_write_at_once(tmp_path: Path) -> None:
    alone = World(tmp_path)
    done = alone.call("run")
    assert done.returncode == 0, done.stderr
    (tmp_path / "together").mkdir()
    together = World(tmp_path / "together")
    shutil.copytree(alone.home, together.home)
    bars, quantiles = alone.rows(BARS), alone.rows(QUANTILES)
    assert len(bars) > 10_000 and quantiles
    newest = max(row["origin"] for row in quantiles)[:10]
    with ui_of(together) as ui:
        for number in range(ROUNDS):
            year = 2008 + number
            asked = ui.launch("ingest", f"{year}-01-02", f"{year}-12-30")
            daily = ui.launch("daily", newest, newest)
            backfill = together.call("backfill", "--from", f"{year}-01-02", "--to", f"{year}-06-30")
            assert backfill.returncode == 0, backfill.stderr
            assert (ui.ended(asked), ui.ended(daily)) == ("SUCCESS", "SUCCESS")
    assert together.rows(BARS) == bars
    assert together.rows(QUANTILES) == quantiles
