"""Formatting of the report: display names of metrics and models, numbers with units, tables of text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from assets.forecasting.intervals import nominal_coverage, percent
from assets.plots import label

# percent: a fraction, shown × 100; of_price: already in percent.
Unit = Literal["percent", "of_price", "ratio", "count", "number"]
MISSING = "–"
MINUS, HARD_SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
_SHOWN: dict[str, tuple[float, int, str]] = {
    "percent": (100.0, 1, f"{HARD_SPACE}%"),
    "of_price": (1.0, 3, f"{HARD_SPACE}%"),
    "ratio": (1.0, 1, f"{HARD_SPACE}×"),
    "count": (1.0, 0, ""),
}


@dataclass(frozen=True)
class MetricFormat:
    """Display name, unit and meaning of a metric. `better`: the direction of improvement, if it has one."""

    name: str
    unit: Unit
    better: Literal["lower", "higher", "nearer"] | None = None
    target: float | None = None
    meaning: str = ""


SCORES = {
    "crps": MetricFormat(
        "CRPS", "of_price", "lower", meaning="error of the forecast distribution, in percent of the price"
    ),
    "absolute_error": MetricFormat(
        "Absolute error", "of_price", "lower", meaning="error of the median, in percent of the price"
    ),
    "mase": MetricFormat(
        "MASE", "number", "lower", meaning="absolute error of the median over the mean absolute one-bar change"
    ),
    "direction": MetricFormat("Direction", "percent", "higher", meaning="share of moves with the sign of the forecast"),
    "rank_ic": MetricFormat(
        "RankIC",
        "number",
        "higher",
        meaning="rank correlation between forecast and actual return across the symbols of an origin",
    ),
}
MEASURES = {
    "annual_return_net": MetricFormat("Annual return, net", "percent", "higher"),
    "annual_return_gross": MetricFormat("Annual return, gross", "percent", "higher"),
    "volatility_net": MetricFormat("Annual volatility, net", "percent"),
    "sharpe_net": MetricFormat("Sharpe ratio, net", "number", "higher"),
    "max_drawdown_net": MetricFormat("Maximum drawdown, net", "percent", "higher"),
    "excess_return": MetricFormat("Annual excess return over benchmark, net", "percent", "higher"),
    "alpha": MetricFormat("Annual alpha over benchmark, net", "percent", "higher"),
    "beta": MetricFormat("Beta", "number"),
    "minimum_detectable_alpha": MetricFormat("Smallest alpha detectable, 80 % power", "percent", "lower"),
    "information_ratio": MetricFormat("Information ratio", "number", "higher"),
    "deflated_sharpe": MetricFormat("Deflated Sharpe ratio", "percent", "higher"),
    "turnover": MetricFormat("Annual turnover", "ratio"),
    "cost": MetricFormat("Annual costs", "percent", "lower"),
    "traded_days": MetricFormat("Sessions with trades", "percent"),
    "refused_orders": MetricFormat("Orders refused", "count", "lower"),
    "refused_suspended": MetricFormat("\N{EM SPACE}no bar (suspended)", "count"),
    "refused_no_volume": MetricFormat("\N{EM SPACE}volume 0", "count"),
    "refused_limit_up": MetricFormat("\N{EM SPACE}at the upper limit", "count"),
    "refused_limit_down": MetricFormat("\N{EM SPACE}at the lower limit", "count"),
}


@dataclass(frozen=True)
class TextColumn:
    """A column of a table. Numeric columns are right-aligned."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class TextTable:
    """A table of formatted text. `groups`: the first row of each group and its heading."""

    columns: tuple[TextColumn, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    groups: tuple[tuple[int, str], ...] = ()

    def heading_before(self, row: int) -> str:
        return dict(self.groups).get(row, "")


def score(metric: str) -> MetricFormat:
    """Display properties of a forecast score; an unknown one is shown under its own name."""
    nominal = nominal_coverage(metric)
    if nominal is not None:
        shown = percent(nominal)
        return MetricFormat(
            f"Coverage, {shown} interval", "percent", "nearer", nominal, f"share of closes inside; nominal {shown}"
        )
    return SCORES.get(metric, MetricFormat(metric.replace("_", " "), "number"))


def score_place(metric: str) -> float:
    """Where a score stands in a table: losses, coverages from narrow to wide, then the others."""
    nominal, shown = nominal_coverage(metric), list(SCORES)
    return shown.index(metric) if nominal is None else shown.index("mase") + nominal


def is_shown(metric: str) -> bool:
    """Whether the report has a table of this score."""
    return metric in SCORES or nominal_coverage(metric) is not None


def model_name(model: str) -> str:
    return "Benchmark" if model == "benchmark" else label(model)


def number(value: float | None, unit: Unit = "number", signed: bool = False) -> str:
    """A number with unit, typographic minus sign and no negative zero; a dash for None and non-finite values."""
    if value is None or not math.isfinite(value):
        return MISSING
    scale, places, suffix = _SHOWN.get(unit, (1.0, _places(value), ""))
    shown = round(scale * value, places) + 0.0
    return f"{shown:{'+' if signed else ''},.{places}f}{suffix}".replace("-", MINUS)


def interval(low: float | None, high: float | None, unit: Unit = "number", signed: bool = False) -> str:
    """`low … high`, the unit once, or a dash."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    start = number(low, unit, signed).partition(HARD_SPACE)[0]
    return f"{start}{HARD_SPACE}… {number(high, unit, signed)}"


def listing(items: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def typeset(text: str) -> str:
    """Text with typographic minus signs, and non-breaking spaces before percent signs."""
    return re.sub(r"(?<=\d) ?%", f"{HARD_SPACE}%", re.sub(r"(?<![\w-])-(?=\d)", MINUS, text))


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 symbol`, `5 symbols`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _places(value: float) -> int:
    size = abs(value)
    return 3 if size < 1 else 2 if size < 100 else 0
