"""What a person reads when a step fails."""

import dagster as dg
import pytest

from orchestration.cli.run_progress import Watch
from resources.errors import CandlecastError, WarehouseBusyError


def _told(error: Exception) -> list[str]:
    """What the terminal says of a step that fails with this error."""

    @dg.asset
    def kronos_tokenizer() -> None:
        try:
            raise OSError("the disk")
        except OSError as cause:
            raise error from cause

    watch = Watch()
    job = dg.Definitions(
        assets=[kronos_tokenizer], jobs=[dg.define_asset_job("j")], loggers={"progress": watch.logger()}
    ).resolve_job_def("j")
    job.execute_in_process(raise_on_error=False, run_config={"loggers": {"progress": {}}})
    return watch.failures


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CandlecastError("kronos_tokenizer: no window"), "no window"),
        (WarehouseBusyError("held by process 7"), "held by process 7"),
        (RuntimeError("something"), "OSError: the disk"),
    ],
)
def test_a_failure_is_told_once_and_in_our_words(error, words):
    assert _told(error) == [f"kronos_tokenizer: {words}"]
