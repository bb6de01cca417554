"""Reports of a training process reach the Dagster run through Pipes, and without a run the caller."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest

from assets.training.worker.pipes_client import run_pipes_child
from resources.child_process import PROJECT
from resources.errors import CandlecastError

WORK = """
import sys
from assets.training.worker.pipes_reporting import report_metrics, report_progress, run_and_report
from resources.errors import CandlecastError

def work():
    report_progress(1, 2, "half")
    print("a warning of some library")
    report_metrics({"step": 10, "train_loss": 0.5, "validation_loss": 0.25})
    report_progress(2, 2)
    {end}

sys.exit(run_and_report(work))
"""
REPORTS = [(1, 2, "half"), (2, 2, "")]


def command(end: str = "pass") -> list[str]:
    return [sys.executable, "-c", WORK.replace("{end}", end)]


def materialised(
    end: str, instance: dg.DagsterInstance
) -> tuple[dg.ExecuteInProcessResult, list[tuple[int, int, str]]]:
    """A run whose one asset works in a child process, and the progress that it reported."""
    reports: list[tuple[int, int, str]] = []

    @dg.asset
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        run_pipes_child(
            command(end), "model", lambda done, total, note="": reports.append((done, total, note)), context
        )
        return dg.MaterializeResult()

    return dg.materialize([model], instance=instance, raise_on_error=False), reports


def test_progress_measures_and_output_reach_the_run() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result, reports = materialised("pass", instance)
        assert result.success
        assert reports == REPORTS
        (seen,) = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
        metadata = seen.asset_observation_data.asset_observation.metadata
        assert {name: value.value for name, value in metadata.items()} == {
            "step": 10,
            "train_loss": 0.5,
            "validation_loss": 0.25,
        }
        log = [record.user_message for record in instance.all_logs(result.run_id)]
        assert "a warning of some library" in log
        assert any("successfully opened dagster pipes" in line for line in log)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("raise CandlecastError('batch_size 9 is more than there is')", "model: batch_size 9 is more than there is"),
        ("raise OSError(28, 'No space left on device')", "No space left on device.*last good checkpoint is untouched"),
        ("1 / 0", "model: ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_reaches_the_run_with_its_message_and_traceback(end: str, message: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result, reports = materialised(end, instance)
        assert not result.success
        assert reports == REPORTS
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        error = failure.step_failure_data.error
        assert error is not None and error.cause is not None
        assert re.search(message, error.cause.message)
        engine = [
            record.dagster_event.engine_event_data.error
            for record in instance.all_logs(result.run_id)
            if record.dagster_event is not None and record.dagster_event.is_engine_event
        ]
        assert any(found is not None and "in work" in "".join(found.stack) for found in engine)


def test_without_a_run_the_caller_receives_the_same_reports() -> None:
    reports: list[tuple[int, int, str]] = []
    run_pipes_child(command(), "model", lambda done, total, note="": reports.append((done, total, note)))
    assert reports == REPORTS
    with pytest.raises(CandlecastError, match="model: ZeroDivisionError: division by zero"):
        run_pipes_child(command("1 / 0"), "model")


@pytest.mark.parametrize(("number", "hint"), [(signal.SIGKILL, "out of memory"), (signal.SIGBUS, "disk full")])
def test_a_killed_process_is_reported_with_its_signal_and_last_output(number: signal.Signals, hint: str) -> None:
    ends = f"import os; os.kill(os.getpid(), {number.value})"
    message = rf"(?s)ended by signal {number.value} \({hint}\?\).*a warning of some library"
    with pytest.raises(CandlecastError, match=message):
        run_pipes_child(command(ends), "model")


def test_only_the_first_of_several_processes_reports() -> None:
    def second(end: str = "pass") -> list[str]:
        """What torchrun starts as its second worker."""
        return ["env", "RANK=1", *command(end)]

    reports: list[tuple[int, int, str]] = []
    run_pipes_child(second(), "model", lambda done, total, note="": reports.append((done, total, note)))
    assert reports == []
    with pytest.raises(CandlecastError, match=r"(?s)ended with code 1.*too little memory"):
        run_pipes_child(second("raise CandlecastError('too little memory')"), "model")


@pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN])
def test_an_interrupted_parent_stops_the_process(tmp_path: Path, disposition: signal.Handlers) -> None:
    before = signal.signal(signal.SIGTERM, disposition)

    def stop(done: int, total: int, note: str = "") -> None:
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            run_pipes_child(
                command(f"import time; time.sleep(60); open({str(tmp_path / 'late')!r}, 'w')"), "model", stop
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (tmp_path / "late").exists()


def test_a_child_exits_when_its_parent_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "child"
    ends = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    script = (
        f"from assets.training.worker.pipes_client import run_pipes_child; run_pipes_child({command(ends)!r}, 'model')"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT)
    child = None
    while child is None and parent.poll() is None:
        child = int(note.read_text()) if note.is_file() and note.read_text() else None
    parent.kill()
    parent.wait()
    assert child is not None
    waited = 0.0
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE and waited < 30:
        time.sleep(0.1)
        waited += 0.1
    assert waited < 30, "it continues in the folder of the next run"
