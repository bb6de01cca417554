"""How the report speaks: names for metrics and models, numbers with units, tables of text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from assets.plots import label

# percent: a fraction, shown × 100; of_price: in per cent already.
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
class Metric:
    """A metric as people read it. `better` says which way is good; none: neither is."""

    name: str
    unit: Unit
    better: Literal["lower", "higher", "nearer"] | None = None
    target: float | None = None
    meaning: str = ""


SCORES = {
    "crps": Metric("CRPS", "of_price", "lower", meaning="error of the whole distribution, in per cent of the price"),
    "absolute_error": Metric("Absolute error", "of_price", "lower", meaning="of the median, in per cent of the price"),
    "mase": Metric("MASE", "number", "lower", meaning="error of the median over a usual one-bar move"),
    "coverage_80": Metric("Coverage, 80 % band", "percent", "nearer", 0.8, "share of closes inside; 80 % is right"),
    "coverage_90": Metric("Coverage, 90 % band", "percent", "nearer", 0.9, "share of closes inside; 90 % is right"),
    "direction": Metric("Direction", "percent", "higher", meaning="share of moves whose sign was right"),
    "rank_ic": Metric("RankIC", "number", "higher", meaning="rank correlation across the symbols of one origin"),
}
MEASURES = {
    "annual_return_net": Metric("Return a year, net", "percent", "higher"),
    "annual_return_gross": Metric("Return a year, gross", "percent", "higher"),
    "volatility_net": Metric("Volatility a year", "percent"),
    "sharpe_net": Metric("Sharpe ratio, net", "number", "higher"),
    "max_drawdown_net": Metric("Deepest drawdown, net", "percent", "higher"),
    "excess_return": Metric("Excess over the benchmark a year, net", "percent", "higher"),
    "information_ratio": Metric("Information ratio", "number", "higher"),
    "deflated_sharpe": Metric("Deflated Sharpe ratio", "percent", "higher"),
    "turnover": Metric("Turnover a year", "ratio"),
    "cost": Metric("Costs a year", "percent", "lower"),
    "traded_days": Metric("Sessions with a trade", "percent"),
}


@dataclass(frozen=True)
class Column:
    """A table's column. Numbers stand right."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Text, ready to be set. `groups` are the first row of each group and its heading."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    groups: tuple[tuple[int, str], ...] = ()

    def heading_before(self, row: int) -> str:
        return dict(self.groups).get(row, "")


def score(metric: str) -> Metric:
    """A forecast score's name; one that we do not know is called what the table calls it."""
    return SCORES.get(metric, Metric(metric.replace("_", " "), "number"))


def model_name(model: str) -> str:
    return "Benchmark" if model == "benchmark" else label(model)


def number(value: float | None, unit: Unit = "number", signed: bool = False) -> str:
    """A number with its unit, a real minus sign, no minus zero, and a dash where there is none."""
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


def listing(words: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def typeset(words: str) -> str:
    """Plain text with real minus signs and with per cent signs set off."""
    return re.sub(r"(?<=\d) ?%", f"{HARD_SPACE}%", re.sub(r"(?<![\w-])-(?=\d)", MINUS, words))


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 symbol`, `5 symbols`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _places(value: float) -> int:
    size = abs(value)
    return 3 if size < 1 else 2 if size < 100 else 0
