"""The columns of a frame of series: timestamps, ids, targets and covariates, and their values."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

import numpy as np
import pandas as pd

from resources.errors import CandlecastError

# float64, or text as objects.
Values: TypeAlias = np.ndarray
TIMESTAMP_NAMES = ("timestamp", "ds", "datetime", "date", "time", "period", "month", "year", "step")
ID_NAMES = ("id", "item_id", "unique_id", "series_id", "series", "symbol", "ticker")
TARGET_NAMES = ("target", "value", "y")
_EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", "nat"})
_FORMATTED = re.compile(r"[^A-Za-z]*\d[^A-Za-z]*")
# Of a text column, numbers in more cells than this make the others mistakes, not categories.
MOSTLY = 0.5


@dataclass(frozen=True)
class Layout:
    """The roles of the columns of a frame.

    Attributes:
        id: None: the frame is one series, or wide.
        wide: each target is a series of its own; else the targets of a series are forecast together.
        past: covariates whose future is not known.
        known: covariates that are known in advance.
        categorical: of the covariates, those that are categories though they are numbers.
        notes: what was inferred.
    """

    timestamp: str
    targets: tuple[str, ...]
    id: str | None = None
    wide: bool = False
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    categorical: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def covariates(self) -> tuple[str, ...]:
        return (*self.past, *self.known)


def find_layout(
    columns: Iterable[Hashable],
    *,
    target: Sequence[str] = (),
    past: Sequence[str] = (),
    known: Sequence[str] = (),
    future: Iterable[Hashable] | None = None,
    id: str | None = None,
    timestamp: str | None = None,
    wide: bool | None = None,
    categorical: Sequence[str] = (),
) -> Layout:
    """The roles of columns, from what is stated and from usual names.

    Args:
        known: None stated: the columns of `future` that are neither id, timestamp, targets nor `past`.
        wide: None: wide if neither `id` nor `target` are stated or found by a usual name.

    Raises:
        CandlecastError: a stated column is not there, or a role cannot be inferred.
    """
    names = [str(column) for column in columns]
    _require_unique(names)
    for role, stated in (("target", target), ("past", past), ("known", known), ("categorical", categorical)):
        for name in stated:
            _require(name, names, role)
    stamp = _require(timestamp, names, "timestamp") if timestamp else _guess(names, TIMESTAMP_NAMES)
    if stamp is None:
        raise CandlecastError(
            f"no column of timestamps among {_shown(names)}: name it with --timestamp (whole numbers, such as years, "
            "will do)"
        )
    # A wide table has no column of ids; one that is named by a usual name is one unless it is requested as data.
    own = _require(id, names, "id") if id else None if wide else _guess(names, ID_NAMES)
    taken = {stamp, own, *target, *past, *known}
    ahead = [str(name) for name in future] if future is not None else []
    if ahead and not known:
        known = [name for name in ahead if name not in {stamp, own, *target, *past}]
        for name in known:
            if name not in names:
                raise CandlecastError(
                    f"column {name} of the future table is not in the history{_nearest(name, names)}: a covariate "
                    "needs its past too; add it there, or remove it"
                )
        taken |= set(known)
    for name in [one for one in known if ahead and one not in ahead]:
        raise CandlecastError(f"--known {name} is not in the future table, which has {_shown(ahead)}")
    if ahead and stamp not in ahead:
        raise CandlecastError(f"the future table has no column {stamp} of timestamps, it has {_shown(ahead)}")
    unused = [name for name in ahead if name not in {stamp, own, *known}]
    notes = [f"columns of the future table that are not read: {_shown(unused)}"] if unused else []
    targets = tuple(target)
    if not targets:
        left = [name for name in names if name not in taken]
        usual = _guess(left, TARGET_NAMES)
        targets = (usual,) if usual is not None and not wide else tuple(left)
        if not targets or (own is not None and usual is None and len(left) > 1):
            raise CandlecastError(f"which column is to be forecast? name it with --target, of {_shown(left or names)}")
        wide = wide if wide is not None else own is None and len(targets) > 1
    inferred = {"timestamps in": [] if timestamp else [stamp], "ids in": [own] if own and not id else []}
    inferred["forecasts of"] = [] if target else list(targets)
    if any(inferred.values()):
        notes.append("inferred: " + ", ".join(f"{role} {_shown(found)}" for role, found in inferred.items() if found))
    _require_apart(stamp, own, targets, past, known)
    return Layout(stamp, targets, own, bool(wide), tuple(past), tuple(known), frozenset(categorical), tuple(notes))


def column_values(cells: pd.Series, categorical: bool = False) -> tuple[Values, Mapping[int, str]]:
    """The values of a column, and the reason for each row whose cell cannot be used.

    Numbers are float64 with NaN where empty, booleans are 0 and 1. Text of which no more than half are numbers is
    categories, as objects with None where empty.
    """
    cells = cells.reset_index(drop=True)
    if categorical:
        return _categories(cells), {}
    if pd.api.types.is_bool_dtype(cells) or pd.api.types.is_numeric_dtype(cells):
        return _finite(cells, pd.to_numeric(cells).to_numpy(dtype=np.float64, na_value=np.nan))
    text = cells.astype("string").str.strip().fillna("")
    empty = text.str.lower().isin(_EMPTY).to_numpy(dtype=bool)
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~empty & np.isnan(numbers)
    if wrong.sum() > MOSTLY * (~empty).sum():
        _refuse_formatted(text[wrong], str(cells.name))
        return _categories(cells), {}
    values, bad = _finite(cells, numbers)
    return values, {
        **bad,
        **{
            int(row): f"column {cells.name}, row {row + 1}: {cells[row]!r} is not a number; leave it empty if it is "
            f"not known; --categorical {cells.name} if they are categories"
            for row in np.flatnonzero(wrong)
        },
    }


def _refuse_formatted(text: pd.Series, name: str) -> None:
    """Refuse numbers in a format that is not read, which would become categories."""
    formatted = text.str.fullmatch(_FORMATTED)
    if formatted.mean() > MOSTLY:
        row = int(text.index[int(np.argmax(formatted))])
        raise CandlecastError(
            f"column {name}, row {row + 1}: {text[row]!r} is not a number as it is written: write such as 1234.5; "
            f"--categorical {name} if they are categories"
        )


def _finite(cells: pd.Series, numbers: np.ndarray) -> tuple[Values, Mapping[int, str]]:
    infinite = np.flatnonzero(np.isinf(numbers))
    return numbers, {
        int(row): f"column {cells.name}, row {row + 1}: {numbers[row]} is not finite; leave it empty if it is not known"
        for row in infinite
    }


def _categories(cells: pd.Series) -> Values:
    text = cells.astype("string").str.strip()
    return text.astype(object).where(text.notna() & ~text.str.lower().isin(_EMPTY).fillna(True), None).to_numpy()


def _require(name: str, names: Sequence[str], role: str) -> str:
    if name not in names:
        raise CandlecastError(
            f"--{role} {name}: there is no such column{_nearest(name, names)}; there are {_shown(names)}"
        )
    return name


def _require_unique(names: Sequence[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise CandlecastError(f"column {twice[0]!r} occurs more than once: rename or remove one of them")


def _require_apart(
    stamp: str, own: str | None, targets: Sequence[str], past: Sequence[str], known: Sequence[str]
) -> None:
    roles: dict[str, str] = {}
    for role, stated in (
        ("timestamp", [stamp]),
        ("id", [own] if own else []),
        ("target", targets),
        ("past", past),
        ("known", known),
    ):
        for name in stated:
            if name in roles:
                raise CandlecastError(f"column {name} is both --{roles[name]} and --{role}: it can be one of them")
            roles[name] = role


def _guess(names: Sequence[str], usual: Sequence[str]) -> str | None:
    lower = {name.strip().lower(): name for name in reversed(names)}
    return next((lower[name] for name in usual if name in lower), None)


def _nearest(name: str, names: Sequence[str]) -> str:
    lower = {one.lower(): one for one in names}
    near = get_close_matches(name.lower(), lower, n=1)
    return f" (did you mean {lower[near[0]]}?)" if near else ""


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" … ({len(names)} columns)" if len(names) > 12 else "")
