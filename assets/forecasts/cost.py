"""The cost of forecasts: time and memory of a model while it forecasts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from resources.compute import resident_mib

SAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class ForecastCost:
    """Time and memory of some forecasts.

    Attributes:
        seconds: in the model, without loading it, added over processes.
        peak_mib: highest resident memory of the process and its children meanwhile.
        added_mib: by how much that exceeds the memory before the model was loaded.
    """

    forecasts: int
    seconds: float
    peak_mib: float
    added_mib: float


class CostMeter:
    """Measures what happens inside `measuring()`; made before the model is loaded.

    Attributes:
        seconds: measured until now; time in other processes is added to it.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._peak = resident_mib(self._process)
        self.seconds = 0.0

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Add the time of the block, and sample its memory."""
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(stop,), daemon=True)
        sampler.start()
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began
            stop.set()
            sampler.join()

    def cost(self, forecasts: int) -> ForecastCost:
        """The time and memory measured so far, of a number of forecasts."""
        return ForecastCost(forecasts, self.seconds, self._peak, self._peak - self._before)

    def _sample(self, stop: threading.Event) -> None:
        stopped = False
        while not stopped:
            stopped = stop.wait(SAMPLE_SECONDS)
            self._peak = max(self._peak, resident_mib(self._process))
