"""What derived models learnt until some time ago, kept in the home: a new origin learns from what came since.

A state is used while the digest of all that it was learnt from is the same: earlier forecasts, targets, and the closes
up to its last target. Else, and where the file is missing or damaged, the rule learns from the first origin on again:
files change no forecast. Those of models that are no longer in use are removed when a state is kept. Not here: what is
learnt (the rules' learners), and where panels come from (stored).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from assets.forecasting.calibration.base_keys import Base
from assets.forecasting.calibration.earlier_forecasts import EarlierForecasts
from assets.forecasting.calibration.outcomes import same_closes
from assets.forecasting.calibration.panel import Derive, Learn, State
from assets.forecasting.calibration.stored import StoredForecasts
from assets.market.history import BarHistory
from resources.derived_models import COMBINATIONS
from resources.publish import publish_bytes

VERSION = 3
# A state has the outcomes that were known this many origins ago: the bars after newer origins are none of its.
# It is kept anew once it lacks as many more.
LAG = 4
_SEAL, _OF, _ENDING = 32, "of", ".state"


@dataclass(frozen=True)
class KeptState:
    """What was learnt from the forecasts up to an origin.

    Attributes:
        digest: of all that it was learnt from.
    """

    origin: np.datetime64
    digest: str
    state: State


class KeptStates:
    """The learning of one derived model, which continues from its kept state.

    Args:
        name: of the state's file (`state_name`): the checkpoint stands for the rule and its parameters.
    """

    def __init__(self, stored: StoredForecasts, bases: Sequence[Base], learn: Learn, name: str) -> None:
        self._stored, self._bases, self._learn = stored, bases, learn
        self._file = stored.home.learnt / name
        self._kept: KeptState | None = None
        self._is_read = False

    def learn(self, histories: Mapping[str, BarHistory], keep: bool) -> Derive:
        """What is learnt from all earlier forecasts, with the outcomes of some bars.

        Args:
            keep: whether these are the bars of the home, so that the state is kept.
        """
        learner, first, kept = self._learn.start(), 0, self._newest()
        if kept and kept.state.keys() == learner.state().keys() and self._is_of(kept, histories):
            learner.restore(kept.state)
            first = self._rows_until(kept.origin)
        last = self._last_to_keep
        if keep and last is not None and self._origins_between(first, last) >= LAG:
            end = self._rows_until(last)
            learner.after(self._earlier.panels(self._known(last, histories), first, end))
            self._keep(KeptState(last, self._digest(last), learner.state()))
            first = end
        return learner.after(self._earlier.panels(histories, first)).learnt()

    @cached_property
    def _earlier(self) -> EarlierForecasts:
        return self._stored.earlier(self._bases)

    @property
    def _unique(self) -> np.ndarray:
        return self._earlier.unique_origins

    @cached_property
    def _last_to_keep(self) -> np.datetime64 | None:
        """The newest origin whose outcomes were all known LAG origins ago."""
        if len(self._unique) <= LAG:
            return None
        earlier, limit = self._unique[: -LAG - 1], self._unique[-LAG - 1]
        return next((one for one in earlier[::-1] if self._stored.following(one)[-1] <= limit), None)

    def _rows_until(self, origin: np.datetime64) -> int:
        return int(np.searchsorted(self._earlier.origins, origin, side="right"))

    def _origins_between(self, first: int, last: np.datetime64) -> int:
        return len(np.unique(self._earlier.origins[first : self._rows_until(last)]))

    def _symbols_until(self, origin: np.datetime64) -> list[str]:
        """The symbols with bars, and with earlier forecasts up to an origin."""
        return sorted(set(self._earlier.symbols[: self._rows_until(origin)]) & set(self._stored.histories))

    def _known(self, origin: np.datetime64, histories: Mapping[str, BarHistory]) -> dict[str, BarHistory]:
        """The bars up to the last target of an origin, of the symbols with earlier forecasts until then."""
        last = self._stored.following(origin)[-1]
        own = {name: histories[name] for name in self._symbols_until(origin) if name in histories}
        return {
            name: one.rows(slice(int(np.searchsorted(one.stamps, last, side="right")))) for name, one in own.items()
        }

    def _is_of(self, kept: KeptState, histories: Mapping[str, BarHistory]) -> bool:
        """Whether a state was learnt from what is stored now, and from the bars of some histories."""
        last, stored = self._stored.following(kept.origin)[-1], self._stored.histories
        others = [(one, stored[name]) for name, one in histories.items() if one is not stored.get(name)]
        return all(same_closes(*pair, last) for pair in others) and self._digest(kept.origin) == kept.digest

    def _digest(self, origin: np.datetime64) -> str:
        """The digest of all that is learnt from the forecasts up to an origin, with the bars of the home."""
        total = hashlib.sha256(f"{VERSION} {np.__version__}".encode())
        for base in self._bases:
            total.update(self._stored.fingerprints.of_base(base, origin))
        for one in self._unique[self._unique <= origin]:
            total.update(self._stored.following(one).tobytes())
        symbols = self._symbols_until(origin)
        total.update(self._stored.fingerprints.of_closes(symbols, self._stored.following(origin)[-1]))
        return total.hexdigest()

    def _newest(self) -> KeptState | None:
        if not self._is_read:
            self._kept, self._is_read = read_state(self._file), True
        return self._kept

    def _keep(self, kept: KeptState) -> None:
        self._kept, self._is_read = kept, True
        # A full or read-only disk costs time in the next run.
        with suppress(OSError):
            write_state(self._file, kept)
            remove_unused(self._file, self._stored.declared)


def state_name(model: str, checkpoint: str) -> str:
    """The name of the file of a derived model's state."""
    return f"{model}-{checkpoint}{_ENDING}"


def remove_unused(file: Path, used: Collection[tuple[str, str]]) -> None:
    """Remove the states beside one that none of these models uses: of calibrated models, or of combinations if it is of
    one.

    Args:
        used: models of the asset, with their checkpoints.
    """
    names = {file.name, *(state_name(*one) for one in used)}
    for one in file.parent.glob(f"*{_ENDING}"):
        if one.name not in names and _is_combination(one) == _is_combination(file):
            one.unlink(missing_ok=True)


def _is_combination(file: Path) -> bool:
    return file.name.startswith(tuple(f"{name}-" for name in COMBINATIONS))


def write_state(file: Path, kept: KeptState) -> None:
    """Write a state with its seal, atomically."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {**kept.state, _OF: np.array([str(kept.origin), kept.digest])}
    np.savez(content, **arrays)
    data = content.getvalue()
    publish_bytes(file, hashlib.sha256(data).digest() + data)


def read_state(file: Path) -> KeptState | None:
    """The state in a file; None: there is none, or it is damaged."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[_SEAL:]).digest() != content[:_SEAL]:
        return None
    with np.load(io.BytesIO(content[_SEAL:]), allow_pickle=False) as arrays:
        state = {name: arrays[name] for name in arrays.files}
    origin, digest = state.pop(_OF).tolist()
    return KeptState(np.datetime64(origin), digest, state)
