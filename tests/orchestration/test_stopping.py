"""Ctrl-C that nobody raised, or that became another error, still ends the command."""

import os
import signal
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from orchestration.cli.interrupts import Interruptions, interruptions
from orchestration.cli.run_progress import Watch

MADE: list[str] = []


@dg.asset
def earlier() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    except BaseException:  # as in a finaliser, or in a library that has its own words for it
        MADE.append("earlier")


@dg.asset
def later() -> None:
    MADE.append("later")


@pytest.fixture
def quiet() -> Iterator[None]:
    """A handler that drops what comes, wherever these tests run."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


def test_what_was_dropped_is_remembered(quiet):
    ours = Interruptions()
    signal.raise_signal(signal.SIGINT)
    assert not ours.asked()
    with ours.listening():
        assert not ours.asked()
        signal.raise_signal(signal.SIGUSR1 if signal.getsignal(signal.SIGUSR1) is None else signal.SIGCHLD)
        assert not ours.asked()
        signal.raise_signal(signal.SIGINT)
        assert ours.asked() and ours.asked()
    with ours.listening():
        assert not ours.asked()


def test_a_run_ends_at_the_next_step_after_one_that_swallowed_it(quiet):
    MADE.clear()
    watch = Watch()
    definitions = dg.Definitions(
        assets=[earlier, later],
        jobs=[dg.define_asset_job("j", "*")],
        loggers={"progress": watch.logger()},
    )
    with dg.DagsterInstance.ephemeral() as instance, interruptions.listening():
        done = definitions.resolve_job_def("j").execute_in_process(
            instance=instance, raise_on_error=False, run_config={"loggers": {"progress": {}}}
        )
    assert not done.success and watch.interrupted
    assert MADE == ["earlier"]
