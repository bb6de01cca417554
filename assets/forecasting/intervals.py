"""Central intervals of a forecast: the pairs of quantile levels that are symmetric about the median.

Which there are follows from `forecasts.levels`: 0.1 and 0.9 are the ends of the 80 % interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SCORED = 2
MEDIAN = 0.5
_COVERAGE = "coverage_"
_DECIMALS = 6


@dataclass(frozen=True)
class CentralInterval:
    """The interval between two quantile levels that are symmetric about the median."""

    low: float
    high: float

    @property
    def nominal(self) -> float:
        """The share of actuals that it covers if the forecast is calibrated."""
        return round(self.high - self.low, _DECIMALS)

    @property
    def text(self) -> str:
        return percent(self.nominal)

    @property
    def metric(self) -> str:
        """The name of its coverage as a metric: `coverage_80`."""
        return f"{_COVERAGE}{_shown(self.nominal)}"


def central_intervals(levels: Sequence[float]) -> list[CentralInterval]:
    """All central intervals between these levels, the widest first; none if no two levels are symmetric."""
    stored = {round(float(level), _DECIMALS): float(level) for level in levels}
    lower = [level for level in sorted(stored) if level < MEDIAN and round(1 - level, _DECIMALS) in stored]
    return [CentralInterval(stored[low], stored[round(1 - low, _DECIMALS)]) for low in lower]


def scored_intervals(levels: Sequence[float]) -> list[CentralInterval]:
    """The intervals whose coverage is a score: the two widest, the widest first."""
    return central_intervals(levels)[:SCORED]


def drawn_intervals(levels: Sequence[float]) -> list[CentralInterval]:
    """The intervals of a fan chart: the two widest, and of the others the one nearest to 50 %."""
    widest, others = scored_intervals(levels), central_intervals(levels)[SCORED:]
    return [*widest, *sorted(others, key=lambda one: abs(one.nominal - 0.5))[:1]]


def nominal_coverage(metric: str) -> float | None:
    """The nominal level of a coverage metric such as `coverage_80`; None for other metrics."""
    name, prefix, nominal = metric.partition(_COVERAGE)
    return float(nominal) / 100 if prefix and not name else None


def percent(share: float) -> str:
    """A share as text: `80 %`, `97.5 %`."""
    return f"{_shown(share)} %"


def _shown(share: float) -> str:
    return f"{round(100 * share, _DECIMALS - 2):g}"
