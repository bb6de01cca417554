"""A run as seen from the command line: which asset, how far, how long, how much memory.

Belongs here: what is measured and told. Not here: how a terminal draws it (orchestration.cli.terminal).
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import psutil

from orchestration.cli.interrupts import interruptions
from resources.errors import CandlecastError
from resources.progress import Report

SAMPLE_SECONDS = 0.25
# Dagster turns Ctrl-C into a failure of the step at work.
INTERRUPTIONS = (dg.DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__)
MEBIBYTE = 2**20
# How a traceback begins the line of an error that was raised on purpose.
_OURS = re.compile(rf"^{re.escape(CandlecastError.__module__)}\.\w+: ")


@dataclass
class Made:
    """What became of one asset in a run."""

    asset: str
    started: float
    seconds: float | None = None
    peak_mib: float = 0.0
    failed: bool = False


@dataclass
class Watch:
    """Follows runs in this process. `tell` is called with each asset as it starts and ends."""

    tell: Callable[[Made], None] = lambda made: None
    made: list[Made] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False
    _current: Made | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watch":
        threading.Thread(target=self._measure, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def logger(self) -> dg.LoggerDefinition:
        """A Dagster logger that feeds this watch."""
        handler = _EventHandler(self._event)

        @dg.logger(config_schema=dg.Permissive())
        def progress(_context: dg.InitLoggerContext) -> logging.Logger:
            logger = logging.Logger("candlecast.progress", level=logging.DEBUG)
            logger.addHandler(handler)
            return logger

        return progress

    def _event(self, event: Any) -> None:
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            self._hear(event.event_specific_data)
        elif event.event_type_value == "STEP_START":
            self._current = Made(event.step_key, time.monotonic())
            self.made.append(self._current)
            self.tell(self._current)
            # Independent of a step that failed by an interruption, this one would still be made.
            interruptions.say_again()
        elif event.event_type_value in ("STEP_SUCCESS", "STEP_FAILURE") and self._current:
            current, self._current = self._current, None
            current.seconds = time.monotonic() - current.started
            current.failed = event.event_type_value == "STEP_FAILURE"
            if current.failed:
                self.interrupted |= _is_interruption(_reason(event))
                self.failures.append(f"{current.asset}: {_reason(event)}")
            self.tell(current)
        elif event.event_type_value == "PIPELINE_FAILURE":
            # Between steps, as in the wait for a pool, an interruption fails the run alone.
            self.interrupted |= _is_interruption(str(event.event_specific_data.error))

    def _hear(self, check: Any) -> None:
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            self.failures.append(f"{check.asset_key.to_user_string()}, {check.check_name}: {check.description}")

    def _measure(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(SAMPLE_SECONDS):
            current = self._current
            if current:
                current.peak_mib = max(current.peak_mib, _resident(process) / MEBIBYTE)


class _EventHandler(logging.Handler):
    def __init__(self, receive: Callable[[Any], None]) -> None:
        super().__init__()
        self._receive = receive

    def emit(self, record: logging.LogRecord) -> None:
        event = (getattr(record, "dagster_meta", None) or {}).get("dagster_event")
        if event is not None:
            self._receive(event)


def _resident(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total


def _is_interruption(reason: str) -> bool:
    return any(name in reason for name in INTERRUPTIONS)


def _reason(event: Any) -> str:
    """Why a step failed: our own words where there are some, else those of the first cause."""
    error = event.event_specific_data.error
    while error.cause is not None and not _OURS.match(error.message):
        error = error.cause
    return _OURS.sub("", error.message.strip()).removeprefix(f"{event.step_key}: ")


def as_line(report: Report) -> str:
    """A progress report in one line."""
    share = f"{report.done / report.total:4.0%}" if report.total else ""
    return f"{report.asset} {share} {report.note}".rstrip()
