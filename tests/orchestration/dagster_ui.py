"""`candlecast ui` of a project, and a client of Dagster's GraphQL API."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tests.orchestration.cli_project import CliProject

TIMEOUT = 240  # seconds, for a server to start and for runs to end
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

    def __init__(self, address: str, process: int) -> None:
        self.address = address
        self.process = process
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

    def kill_worker(self, holds: Callable[[], bool]) -> None:
        """Kill the process of a run with SIGKILL as soon as it holds what is asked for."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            children = psutil.Process(self.process).children(recursive=True)
            for worker in (child for child in children if "spawn_main" in " ".join(child.cmdline())):
                # Stopped while it is checked, so that it cannot let go before the kill.
                worker.suspend()
                if holds():
                    worker.kill()
                    return
                worker.resume()
            time.sleep(0.05)
        raise AssertionError("no run came to hold it")

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
        ui = DagsterUi(f"http://127.0.0.1:{port}", process.pid)
        ui.wait_until_served(process)
        yield ui
    finally:
        # The whole process group: Dagster's servers and workers are grandchildren.
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, sign)
                process.wait(30)
