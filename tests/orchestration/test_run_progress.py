"""The message of a step that fails."""

import gc
import subprocess
import sys

import dagster as dg
import pytest

from orchestration.cli.run_progress import RunMonitor
from orchestration.cli.session import collect_garbage
from resources.errors import CandlecastError, WarehouseBusyError


def _failures(error: Exception) -> list[str]:
    """The messages of a step that fails with this error."""

    @dg.asset
    def kronos_tokenizer() -> None:
        try:
            raise OSError("the disk")
        except OSError as cause:
            raise error from cause

    monitor = RunMonitor()
    job = dg.Definitions(
        assets=[kronos_tokenizer], jobs=[dg.define_asset_job("j")], loggers={"progress": monitor.logger()}
    ).resolve_job_def("j")
    job.execute_in_process(raise_on_error=False, run_config={"loggers": {"progress": {}}})
    return monitor.failures


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CandlecastError("kronos_tokenizer: no window"), "no window"),
        (WarehouseBusyError("held by process 7"), "held by process 7"),
        (RuntimeError("something"), "OSError: the disk"),
    ],
)
def test_a_failure_is_reported_once_with_the_own_error_or_the_first_cause(error: Exception, message: str) -> None:
    assert _failures(error) == [f"kronos_tokenizer: {message}"]


def test_a_step_shorter_than_a_sample_has_its_memory_measured() -> None:
    @dg.asset
    def short() -> None: ...

    monitor = RunMonitor()
    job = dg.Definitions(
        assets=[short], jobs=[dg.define_asset_job("j")], loggers={"progress": monitor.logger()}
    ).resolve_job_def("j")
    job.execute_in_process(run_config={"loggers": {"progress": {}}})
    (run,) = monitor.assets
    assert 20 < run.peak_mib < 20_000


def test_garbage_is_collected_again_after_the_imports_of_a_command() -> None:
    gc.disable()
    try:
        collect_garbage()
        assert gc.isenabled() and gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()
        gc.set_threshold(700)


@pytest.mark.parametrize(
    ("ending", "status", "error"),
    [("sys.exit(3)", 3, ""), ("sys.exit(0)", 0, ""), ("raise OSError('x')", 1, "OSError: x")],
)
def test_a_command_ends_with_its_status_after_everything_is_written_and_closed(
    ending: str, status: int, error: str
) -> None:
    code = (
        "import atexit, logging, logging.handlers, sys\nfrom orchestration.cli import app\n"
        "kept = logging.handlers.MemoryHandler(9, target=logging.StreamHandler())\n"
        "logging.getLogger().addHandler(kept)\n"
        "def command():\n    atexit.register(print, 'closed')\n    print('row ' * 50_000)\n"
        f"    logging.warning('logged')\n    {ending}\n"
        "app.app = command\napp.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[-1], done.stdout.count("row")) == (status, "closed", 50_000)
    assert error in done.stderr and "logged" in done.stderr and "leaked" not in done.stderr
