"""The code server of compose.yaml: its health check reaches the code, and SIGTERM ends it."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
CODE = COMPOSE["services"]["code"]
SECONDS = 120


def _program(words: list[str], port: int) -> list[str]:
    """A command of compose.yaml for this environment and a free port."""
    return [str(Path(sys.executable).parent / words[0]), *(word.replace("4266", str(port)) for word in words[1:])]


def _is_healthy(port: int, home: Path, timeout: float) -> bool:
    check = _program(CODE["healthcheck"]["test"][1:], port)
    try:
        return subprocess.run(check, env=_environment(home), capture_output=True, timeout=timeout).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "DAGSTER_HOME": str(home), "CANDLECAST_HOME": str(home)}


@contextmanager
def _code_server(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (home / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    with DagsterInstance.from_config(str(home)):
        pass  # makes Dagster's tables: two processes that make them at once damage them
    command = _program(shlex.split(CODE["command"]), port)
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=_environment(home), cwd=ROOT, stdout=log, stderr=log)
    try:
        end = time.monotonic() + SECONDS
        while not _is_healthy(port, home, SECONDS):
            assert server.poll() is None and time.monotonic() < end
        yield server, port
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_code_server_that_does_not_answer_is_unhealthy_and_sigterm_ends_it(tmp_path: Path) -> None:
    with _code_server(tmp_path) as (server, port):
        server.send_signal(signal.SIGSTOP)
        assert not _is_healthy(port, tmp_path, 30)
        server.send_signal(signal.SIGCONT)
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        assert not _is_healthy(port, tmp_path, 60)


def test_every_instance_configuration_frees_the_slots_of_killed_runs() -> None:
    shipped = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    composed = yaml.safe_load(COMPOSE["configs"]["instance"]["content"])
    for configuration in (shipped, composed):
        assert configuration["run_monitoring"]["enabled"]
        assert configuration["run_monitoring"]["free_slots_after_run_end_seconds"] == 30
