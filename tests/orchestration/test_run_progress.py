"""The message of a step that fails."""

import dagster as dg
import pytest

from orchestration.cli.run_progress import RunMonitor
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
