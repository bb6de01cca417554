"""Runs of the UI, the daily run and the command line in one home at once: all succeed, no row is lost."""

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

from tests.orchestration.cli_project import CliProject

pytestmark = pytest.mark.slow
ROUNDS = 2
TIMEOUT = 240  # seconds, for a server to start and for runs to end
BARS = "FROM bars SELECT * EXCLUDE (available_at, batch) ORDER BY ALL"
QUANTILES = "FROM forecast_quantiles ORDER BY ALL"
SERVED = "{repositoriesOrError {... on RepositoryConnection {nodes {name location {name}}}}}"
LAUNCH = """
mutation ($launch: ExecutionParams!) {
  launchRun(executionParams: $launch) {__typename ... on LaunchRunSuccess {run {runId}}}
}
"""
FINAL = ("SUCCESS", "FAILURE", "CANCELED")
STATUS = "query ($run: ID!) {runOrError(runId: $run) {... on Run {status}}}"


class DagsterUi:
    """A client of Dagster's GraphQL API, which its pages use."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.selector: dict[str, str] = {}

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            result: dict[str, Any] = json.load(answer)
        assert "errors" not in result, result
        data: dict[str, Any] = result["data"]
        return data

    def wait_until_served(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + TIMEOUT
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
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        launch = {
            "selector": {**self.selector, "pipelineName": job},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
            "runConfigData": {},
            "mode": "default",
        }
        launched = self.ask(LAUNCH, launch=launch)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run: str = launched["run"]["runId"]
        return run

    def ended(self, run: str) -> str:
        """The final status of a run."""
        end = time.monotonic() + TIMEOUT
        while (status := str(self.ask(STATUS, run=run)["runOrError"]["status"])) not in FINAL:
            assert time.monotonic() < end, f"run {run} is still {status}"
            time.sleep(0.5)
        return status


@contextmanager
def ui_of(project: CliProject) -> Iterator[DagsterUi]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (project.folder / "ui.log").open("wb") as log:
        process = subprocess.Popen(
            project.command("ui", "--port", str(port)),
            env=project.environment(),
            cwd=project.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        ui = DagsterUi(f"http://127.0.0.1:{port}")
        ui.wait_until_served(process)
        yield ui
    finally:
        # The whole process group: Dagster's servers and workers are grandchildren.
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, sign)
                process.wait(30)


def test_the_ui_the_daily_run_and_the_command_line_write_concurrently(tmp_path: Path) -> None:
    alone = CliProject(tmp_path)
    done = alone.call("run")
    assert done.returncode == 0, done.stderr
    (tmp_path / "together").mkdir()
    together = CliProject(tmp_path / "together")
    shutil.copytree(alone.home, together.home)
    bars, quantiles = alone.rows(BARS), alone.rows(QUANTILES)
    assert len(bars) > 10_000 and quantiles
    newest = max(row["origin"] for row in quantiles)[:10]
    with ui_of(together) as ui:
        for number in range(ROUNDS):
            year = 2008 + number
            ingest = ui.launch("ingest", f"{year}-01-02", f"{year}-12-30")
            daily = ui.launch("daily", newest, newest)
            backfill = together.call("backfill", "--from", f"{year}-01-02", "--to", f"{year}-06-30")
            assert backfill.returncode == 0, backfill.stderr
            assert (ui.ended(ingest), ui.ended(daily)) == ("SUCCESS", "SUCCESS")
    assert together.rows(BARS) == bars
    assert together.rows(QUANTILES) == quantiles
