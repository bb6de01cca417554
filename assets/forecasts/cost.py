"""The cost of forecasts: time and memory of a model while it forecasts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from resources.companion import CompanionFunction, Item, Value
from resources.usage import UsageMeter, own_mib


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


class CostMeter(UsageMeter):
    """A meter of one model's forecasts, made before the model is loaded.

    Attributes:
        seconds: measured until now; time in other processes is added to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._before, self._added = self.peak_mib, 0.0

    def of_companion(self, function: CompanionFunction[Item, Value]) -> Callable[[Item], Value]:
        """A function of the companion for calls inside `measuring()`.

        Counted is what the call takes there, not how long this process waits: it may have been asked for in advance,
        so that the model was loaded before this meter was made.
        """

        def call(item: Item) -> Value:
            began = time.perf_counter()
            answer = function.answer(item)
            self.seconds += answer.seconds - (time.perf_counter() - began)
            self.peak_mib = max(self.peak_mib, own_mib() + answer.peak_mib)
            self._added = max(self._added, answer.added_mib)
            value: Value = answer.value
            return value

        return call

    def cost(self, forecasts: int) -> ForecastCost:
        """The time and memory measured so far, of a number of forecasts."""
        added = max(self._added, self.peak_mib - self._before)
        return ForecastCost(forecasts, self.seconds, self.peak_mib, added)
