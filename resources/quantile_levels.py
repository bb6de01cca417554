"""Quantile levels: the one check of those that are requested, in the settings, on the command line and in Python.

Messages have one form: `KEY = STATED: FAULT; set KEY = LEVELS`, where the last levels are the stated ones, mended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resources.errors import CandlecastError

SETTING, OPTION = "forecasts.levels", "--levels"
MEDIAN = 0.5
# Levels such as 0.1 + 0.2 are the ones that are meant.
_DECIMALS = 9


@dataclass(frozen=True)
class LevelRule:
    """Which quantile levels are allowed.

    Attributes:
        lowest: and `highest`: the ends of the range, which are allowed themselves.
        giver: what has this range, such as the name of a model; empty: every quantile level.
        median: whether 0.5 must be among them.
    """

    lowest: float = math.nextafter(0.0, 1.0)
    highest: float = math.nextafter(1.0, 0.0)
    giver: str = ""
    median: bool = False

    def fault(self, stated: object, key: str) -> str | None:
        """What is wrong with some levels, and the levels that the key may be set to; None: nothing."""
        if isinstance(stated, str | bytes) or not isinstance(stated, Iterable):
            return f"{stated!r} is no list of numbers; {_remedy(key, self._mended([]))}"
        levels = list(stated)
        reasons = (self._reason(place, levels) for place in range(len(levels)))
        reason = next((text for text in reasons if text), None)
        if reason is None and not levels:
            reason = "no level is stated"
        if reason is None and self.median and MEDIAN not in map(_number, levels):
            reason = f"{MEDIAN} is missing, and the median is the point forecast of every model"
        return reason and f"{reason}; {_remedy(key, self._mended(levels))}"

    def _reason(self, place: int, levels: Sequence[object]) -> str | None:
        stated, level = levels[place], _number(levels[place])
        if level is None:
            return f"{stated!r} is no number"
        if not 0 < level < 1:
            return f"{stated} is not between 0 and 1"
        before = [_number(one) for one in levels[:place]]
        if level in before:
            return f"{stated} is given more than once"
        if before and (last := before[-1]) is not None and level < last:
            return f"{stated} comes after {last:g}, and levels increase"
        if level < self.lowest:
            return f"{stated} is below {self.lowest:g}, the lowest level of {self.giver}"
        if level > self.highest:
            return f"{stated} is above {self.highest:g}, the highest level of {self.giver}"
        return None

    def _mended(self, levels: Sequence[object]) -> list[float]:
        """The levels that are allowed, increasing."""
        known = {level for one in levels if (level := _number(one)) is not None}
        kept = {level for level in known if self.lowest <= level <= self.highest}
        if self.median or not kept:
            kept.add(MEDIAN)
        return sorted(kept)


def require_levels(stated: Iterable[object], key: str, rule: LevelRule | None = None) -> tuple[float, ...]:
    """The levels as numbers.

    Args:
        key: the setting or option that states them.
        rule: None: any increasing levels between 0 and 1.

    Raises:
        CandlecastError: one of them is not allowed.
    """
    levels = stated if isinstance(stated, str) or not isinstance(stated, Iterable) else tuple(stated)
    if fault := (rule or LevelRule()).fault(levels, key):
        raise CandlecastError(f"{_assigned(key, levels)}: {fault}")
    return tuple(float(one) for one in levels)  # type: ignore[arg-type]


def _number(stated: object) -> float | None:
    """The level as a number; None: it is none."""
    if isinstance(stated, bool):
        return None
    try:
        return round(float(stated), _DECIMALS)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _remedy(key: str, levels: Sequence[float]) -> str:
    return f"{'state' if key.startswith('--') else 'set'} {_assigned(key, levels)}"


def _assigned(key: str, levels: object) -> str:
    """Levels as the key states them: an option of the command line, or a key of the settings."""
    shown = levels if isinstance(levels, str) or not isinstance(levels, Iterable) else [*levels]
    if not isinstance(shown, list):
        return f"{key} {shown}" if key.startswith("--") else f"{key} = {shown!r}"
    if key.startswith("--"):
        return f"{key} {','.join(map(str, shown))}"
    return f"{key} = [{', '.join(repr(one) if isinstance(one, str) else str(one) for one in shown)}]"
