"""A Ctrl-C whose exception was swallowed or became another error still ends the command."""

import os
import signal
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from orchestration.cli.interrupts import InterruptRecorder, interrupts
from orchestration.cli.run_progress import RunMonitor

MATERIALISED: list[str] = []


@dg.asset
def earlier() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    except BaseException:  # as in a finaliser, or in a library that raises its own error
        MATERIALISED.append("earlier")


@dg.asset
def later() -> None:
    MATERIALISED.append("later")


@pytest.fixture
def ignored() -> Iterator[None]:
    """A handler that ignores SIGINT."""
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("ignored")
def test_an_ignored_signal_is_recorded() -> None:
    recorder = InterruptRecorder()
    signal.raise_signal(signal.SIGINT)
    assert not recorder.requested()
    with recorder.recording():
        assert not recorder.requested()
        signal.raise_signal(signal.SIGUSR1 if signal.getsignal(signal.SIGUSR1) is None else signal.SIGCHLD)
        assert not recorder.requested()
        signal.raise_signal(signal.SIGINT)
        assert recorder.requested() and recorder.requested()
    with recorder.recording():
        assert not recorder.requested()


@pytest.mark.usefixtures("ignored")
def test_a_run_ends_after_the_step_that_swallowed_an_interrupt() -> None:
    MATERIALISED.clear()
    monitor = RunMonitor()
    definitions = dg.Definitions(
        assets=[earlier, later],
        jobs=[dg.define_asset_job("j", "*")],
        loggers={"progress": monitor.logger()},
    )
    with dg.DagsterInstance.ephemeral() as instance, interrupts.recording():
        done = definitions.resolve_job_def("j").execute_in_process(
            instance=instance, raise_on_error=False, run_config={"loggers": {"progress": {}}}
        )
    assert not done.success and monitor.interrupted
    assert MATERIALISED == ["earlier"]
