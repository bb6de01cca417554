"""Recognition of columns: from their names in the header, or from `[market.columns]` in the settings.

Belongs here: which column has which role, and the time zone or unit that its name states. Not here: the names
themselves (column_names), and how cells are parsed (numbers, timestamps).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from assets.market.parsing.column_names import (
    ALIASES,
    BESIDE,
    CLOCKS,
    CONDITIONAL,
    DAYS,
    plain_name,
    unit_of_name,
)
from resources.errors import CandlecastError
from resources.sources.protocol import ROW, UNPARSED

PRICES = ("open", "high", "low", "close")
REQUIRED = ("date", *PRICES)
NUMBERS = (*PRICES, "volume", "amount", "dividend", "split", "adj_close", "factor")

Confirm = Callable[[str, str, Mapping[str, str]], bool]
"""Whether the values of a column fit a role: role, name in the payload, the columns found so far."""


@dataclass(frozen=True)
class Columns:
    """The columns of a payload that are used.

    Attributes:
        names: standard name → name in the payload.
        clock: the name of a separate time column, if there is one.
        units: standard name → the factor that the column's name states, such as 100 for lots.
        ignored: names in the payload that have no role.
    """

    names: Mapping[str, str]
    clock: str | None
    units: Mapping[str, float] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def __contains__(self, ours: str) -> bool:
        return ours in self.names


def read_header(
    header: Sequence[str],
    configured: Mapping[str, str],
    file: str,
    symbol: str | None,
    confirm: Confirm = lambda role, column, names: True,
) -> Columns:
    """Find the standard columns in the header of a payload.

    Args:
        configured: standard name → name in the file, from the settings. Takes precedence; must be in the header. An
            empty name leaves the column out.
        symbol: symbol of all rows, if the payload needs no symbol column.
        confirm: looks at the values where a name alone does not decide.

    Raises:
        CandlecastError: a column is missing or ambiguous.
    """
    offered = [name for name in header if name not in (ROW, UNPARSED)]
    names = _configured(offered, configured, file)
    free = [name for name in offered if name not in names.values()]
    for ours in ALIASES:
        if ours not in configured and (found := _find(free, ours, names, file, confirm)) is not None:
            names[ours] = found
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise CandlecastError(
            f"{file}: no column for {', '.join(missing)}; the header has {', '.join(map(repr, offered))}. "
            f'Set it in the settings: [profiles.NAME.market.columns] {missing[0]} = "…". If this is no header: '
            "[profiles.NAME.market] header = [names of the columns]"
        )
    if "symbol" not in names and symbol is None:
        raise CandlecastError(f'{file}: no column for the symbol: set it in [market.columns] symbol = "…"')
    clock = _clock(free, names)
    units = {ours: unit for ours, theirs in names.items() if (unit := unit_of_name(theirs)) != 1}
    used = {*names.values(), clock}
    ignored = tuple(name for name in offered if name not in used)
    return Columns(names, clock, units, ignored)


def _configured(offered: Sequence[str], configured: Mapping[str, str], file: str) -> dict[str, str]:
    for ours, theirs in configured.items():
        if ours not in ALIASES:
            raise CandlecastError(f"market.columns.{ours}: not a column of bars; allowed: {', '.join(ALIASES)}")
        if not theirs and ours in REQUIRED:
            raise CandlecastError(f'market.columns.{ours} = "": bars need {ours}: name its column')
        if theirs and theirs not in offered:
            raise CandlecastError(
                f"{file}: no column {theirs!r} (market.columns.{ours}); the header has {', '.join(map(repr, offered))}"
            )
    return {ours: theirs for ours, theirs in configured.items() if theirs}


def _find(free: Sequence[str], ours: str, names: Mapping[str, str], file: str, confirm: Confirm) -> str | None:
    candidates = []
    for alias in ALIASES[ours]:
        others = BESIDE.get((ours, alias))
        if others and others.isdisjoint(plain_name(name) for name in free):
            continue
        found = [name for name in free if name not in names.values() and plain_name(name, ours) == alias]
        if len(found) > 1:
            raise CandlecastError(
                f"{file}: {' and '.join(map(repr, found))} could both be {ours}: "
                f'set it in [market.columns] {ours} = "…"'
            )
        candidates += found
    conditional = CONDITIONAL.get(ours, frozenset())
    certain = [name for name in candidates if plain_name(name, ours) not in conditional or unit_of_name(name) != 1]
    # Of several columns for volume, one that is always zero is passed over.
    if len(certain) > 1 and ours in ("volume", "amount"):
        certain = [name for name in certain if confirm("nonzero", name, names)] or certain
    if certain:
        return certain[0]
    return next((name for name in candidates if confirm(ours, name, names)), None)


def _clock(free: Sequence[str], names: Mapping[str, str]) -> str | None:
    found = [name for name in free if name not in names.values() and plain_name(name, "date") in CLOCKS]
    return found[0] if found and plain_name(names["date"], "date") in DAYS else None
