"""Progress of a run on the command line: which asset, how far, how long, how much memory.

Belongs here: what is measured. Not here: how a terminal draws it (orchestration.cli.terminal).
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import psutil

from orchestration.cli.interrupts import interrupts
from resources.errors import CandlecastError
from resources.progress import ProgressUpdate
from resources.usage import own_mib, resident_mib

# Between two looks at the memory of all processes, which compete with the work for the interpreter.
SAMPLE_SECONDS = 1.0
# Dagster turns Ctrl-C into a failure of the running step.
INTERRUPTIONS = (dg.DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__)
# The promotion of a checkpoint whose decision an earlier run reported.
IN_USE = "kept: already in use"
# The beginning of a traceback's last line for errors that the project raises itself.
_OWN_ERROR = re.compile(rf"^{re.escape(CandlecastError.__module__)}\.\w+: ")


@dataclass
class AssetRun:
    """Time and memory of one asset in a run. `seconds` is None while it runs; `warned`: one of its checks failed."""

    asset: str
    started: float
    seconds: float | None = None
    peak_mib: float = 0.0
    failed: bool = False
    warned: bool = False

    def as_json(self) -> dict[str, object]:
        return {"asset": self.asset, "seconds": round(self.seconds or 0, 2), "peak_mib": round(self.peak_mib)}


@dataclass
class RunMonitor:
    """Follows runs in this process. `on_change` is called with each asset as it starts and ends."""

    on_change: Callable[[AssetRun], None] = lambda run: None
    assets: list[AssetRun] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False
    _texts: dict[str, dict[str, str]] = field(default_factory=dict)
    _current: AssetRun | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "RunMonitor":
        threading.Thread(target=self._measure, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def logger(self) -> dg.LoggerDefinition:
        """A Dagster logger that sends every event to this monitor."""
        handler = _EventHandler(self._event)

        @dg.logger(config_schema=dg.Permissive())  # type: ignore[no-untyped-call]
        def progress(_context: dg.InitLoggerContext) -> logging.Logger:
            logger = logging.Logger("candlecast.progress", level=logging.DEBUG)
            logger.addHandler(handler)
            return logger

        return progress

    def _event(self, event: Any) -> None:
        kind = event.event_type_value
        if kind == "ASSET_CHECK_EVALUATION":
            self._check_evaluated(event.event_specific_data)
        elif kind == "ASSET_MATERIALIZATION":
            self._materialised(event.event_specific_data.materialization)
        elif kind == "STEP_START":
            self._current = AssetRun(event.step_key, time.monotonic(), peak_mib=own_mib())
            self.assets.append(self._current)
            self.on_change(self._current)
            # Dagster still runs the steps that do not depend on the interrupted one.
            interrupts.raise_again()
        elif kind in ("STEP_SUCCESS", "STEP_FAILURE") and self._current:
            current, self._current = self._current, None
            self._step_ended(current, event)
        elif kind == "PIPELINE_FAILURE":
            # Between steps, as in the wait for a pool, an interruption fails the run and no step.
            self.interrupted |= _is_interruption(str(event.event_specific_data.error))

    def _step_ended(self, run: AssetRun, event: Any) -> None:
        run.seconds = time.monotonic() - run.started
        run.peak_mib = max(run.peak_mib, own_mib())
        run.failed = event.event_type_value == "STEP_FAILURE"
        if run.failed:
            self.interrupted |= _is_interruption(_reason(event))
            self.failures.append(f"{run.asset}: {_reason(event)}")
        self.on_change(run)

    def texts(self, name: str) -> dict[str, str]:
        """The text metadata of one name that assets returned, by asset."""
        return dict(self._texts.get(name, {}))

    def recall(self, instance: dg.DagsterInstance, assets: Iterable[str]) -> None:
        """Take the text metadata of assets that are up to date from their newest materialisations."""
        for name in assets:
            event = instance.get_latest_materialization_event(dg.AssetKey(name))
            if event and event.asset_materialization:
                self._materialised(event.asset_materialization)
            promotion = self._texts.get("promotion", {})
            if name in promotion and not promotion[name].startswith("kept"):
                promotion[name] = IN_USE

    def _materialised(self, materialization: dg.AssetMaterialization) -> None:
        for name, value in materialization.metadata.items():
            if isinstance(value, dg.TextMetadataValue) and value.value:
                self._texts.setdefault(name, {})[materialization.asset_key.to_user_string()] = value.value

    def _check_evaluated(self, check: Any) -> None:
        if not check.passed and self._current:
            self._current.warned = True
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            self.failures.append(f"{check.asset_key.to_user_string()}, {check.check_name}: {check.description}")

    def _measure(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(SAMPLE_SECONDS):
            current = self._current
            if current:
                current.peak_mib = max(current.peak_mib, resident_mib(process))


class _EventHandler(logging.Handler):
    def __init__(self, receive: Callable[[Any], None]) -> None:
        super().__init__()
        self._receive = receive

    def emit(self, record: logging.LogRecord) -> None:
        event = (getattr(record, "dagster_meta", None) or {}).get("dagster_event")
        if event is not None:
            self._receive(event)


def _is_interruption(reason: str) -> bool:
    return any(name in reason for name in INTERRUPTIONS)


def _reason(event: Any) -> str:
    """Why a step failed: the project's own error where one is in the chain of causes, else the first cause."""
    error = event.event_specific_data.error
    while error.cause is not None and not _OWN_ERROR.match(error.message):
        error = error.cause
    return _OWN_ERROR.sub("", error.message.strip()).removeprefix(f"{event.step_key}: ")


def as_line(report: ProgressUpdate) -> str:
    """A progress report in one line."""
    share = f"{report.done / report.total:4.0%}" if report.total else ""
    return f"{report.asset} {share} {report.note}".rstrip()
