"""How well a checkpoint forecasts: CRPS and rank correlation over origins, and one checkpoint against another.

A lower token loss is no better forecast (published users found that the hard way), so checkpoints are compared by what
they are for. The forecasts are those of the forecast stage, at top_p = 1. Not here: what follows from it (promotion).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from assets.forecasting.bootstrap import FEWEST_BLOCKS, block_length, interval_of
from assets.forecasting.forecaster import Predict, Task
from assets.forecasting.metrics import crps, rank_ic
from assets.market.history import FIELDS, History
from assets.training.data.dataset import WindowArrays

CONFIDENCE, DRAWS = 0.9, 2000
FEWEST_ORIGINS = 6
CLOSE_NAME = "close"


@dataclass(frozen=True)
class Comparison:
    """One model's loss against another's over the same origins. Skill = 1 − ours / theirs: above 0 is better.

    `low` and `high` are None where the origins are too few for an interval.
    """

    ours: float
    theirs: float
    skill: float
    low: float | None
    high: float | None
    origins: int

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)

    @property
    def shows_better(self) -> bool:
        return self.low is not None and self.low > 0

    @property
    def shows_no_worse(self) -> bool:
        """Not shown to be worse, by origins enough to show it."""
        return self.high is not None and self.high >= 0

    @property
    def words(self) -> str:
        if self.low is None or self.high is None:
            return (
                f"not told: {self.origins} origins in common; an interval needs {FEWEST_ORIGINS}, and of those whose "
                f"forecasts share no bar {FEWEST_BLOCKS}: widen windows.validation (skill {self.skill:+.1%})"
            )
        side = "better" if self.low > 0 else "worse" if self.high < 0 else "no difference shown"
        return (
            f"{side}: CRPS {self.ours:.4g} % against {self.theirs:.4g} %, skill {self.skill:+.1%} "
            f"({CONFIDENCE:.0%} interval {self.low:+.1%} … {self.high:+.1%}) over {self.origins} origins"
        )


def validation_tasks(arrays: WindowArrays, most_origins: int) -> list[Task]:
    """Forecasts to be made in the validation range: every symbol at evenly spread origins that windows end at."""
    lookback = arrays.shape.lookback
    windows = np.asarray(arrays.windows("validation"), dtype=np.int64)
    rows = windows[:, 1] + lookback - 1
    stamps = np.asarray(arrays.stamps)[rows]
    days = np.unique(stamps)
    chosen = days[np.unique(np.linspace(0, len(days) - 1, min(most_origins, len(days))).astype(int))]
    histories = {number: _history(arrays, number) for number in np.unique(windows[:, 0])}
    offsets = np.load(arrays.folder / "offsets.npy")
    wanted = np.flatnonzero(np.isin(stamps, chosen))
    ordered = wanted[np.lexsort((windows[wanted, 0], stamps[wanted]))]
    return [
        Task(arrays.symbols[owner], stamps[n], histories[owner], int(rows[n] - offsets[owner]))
        for n in ordered
        for owner in (int(windows[n, 0]),)
    ]


def judge(predict: Predict, tasks: Sequence[Task], horizon: int, levels: Sequence[float], at_once: int) -> pd.DataFrame:
    """Scores of tasks whose outcome is in their histories: symbol, origin, until, step, crps (per cent), said, was.

    `until` is the bar of the last step; `said` and `was` are the forecast median and the true return since the origin.
    """
    parts = []
    for first in range(0, len(tasks), at_once):
        some = list(tasks[first : first + at_once])
        targets = np.stack([task.history.stamps[task.index + 1 : task.index + 1 + horizon] for task in some])
        prediction = predict(some, targets)
        quantiles = prediction.quantiles[:, :, prediction.fields.index(CLOSE_NAME)]
        parts.append(_scores(some, targets, quantiles, np.asarray(levels)))
    return pd.concat(parts, ignore_index=True)


def mean_rank_ic(scores: pd.DataFrame) -> float:
    """Mean rank correlation across symbols of forecast and true return, over origins and steps; NaN where undefined."""
    said, was = (scores.pivot(index=["origin", "step"], columns="symbol", values=name) for name in ("said", "was"))
    return float(rank_ic(said, was).mean())


def compare(ours: pd.DataFrame, theirs: pd.DataFrame, seed: int) -> Comparison:
    """Ours against theirs over the forecasts that both made, with the interval of the scoreboard.

    Where the origins are few, its blocks are shorter than the scoreboard's, but never than their overlap.
    """
    from arch.bootstrap import CircularBlockBootstrap

    both = ours.merge(theirs, on=["symbol", "origin", "step"], suffixes=("", "_other"))
    means = both.groupby("origin")[["crps", "crps_other"]].mean()
    pairs = means.to_numpy()
    skill = float(_skill(pairs)[0])
    low = high = None
    covering = _covering(both)
    if len(pairs) >= max(FEWEST_ORIGINS, FEWEST_BLOCKS * covering):
        block = max(covering, min(block_length(covering, len(pairs)), len(pairs) // FEWEST_BLOCKS))
        drawn = CircularBlockBootstrap(block, pairs, seed=np.random.default_rng(seed)).apply(_skill, DRAWS)
        low, high = interval_of(drawn[:, 0], skill, 1 - CONFIDENCE, block, len(pairs))
    return Comparison(float(pairs[:, 0].mean()), float(pairs[:, 1].mean()), skill, low, high, len(pairs))


def tasks_at(
    histories: Mapping[str, History], origins: Sequence[np.datetime64], lookback: int, horizon: int
) -> list[Task]:
    """Every symbol at every origin that has a whole lookback before it and a whole horizon after it."""
    found = []
    for origin in origins:
        for symbol, history in histories.items():
            index = history.index_of(origin)
            if index is not None and index + 1 >= lookback and index + horizon < len(history):
                found.append(Task(symbol, origin, history, index))
    return found


def _covering(scores: pd.DataFrame) -> int:
    """How many neighbouring origins' forecasts share a bar, usually: a symbol that was suspended reaches further."""
    until = scores.groupby("origin")["until"].median()
    origins = until.index.to_numpy()
    shared = np.searchsorted(origins, until.to_numpy()) - np.arange(len(origins))
    return max(1, int(np.ceil(np.median(shared))))


def _scores(tasks: Sequence[Task], targets: np.ndarray, quantiles: np.ndarray, levels: np.ndarray) -> pd.DataFrame:
    horizon = targets.shape[1]
    truth = np.stack(
        [task.history.closes_seen_from(task.index, first=task.index + 1, last=task.index + horizon) for task in tasks]
    )
    last = np.array([task.history.quoted[task.index, FIELDS.index(CLOSE_NAME)] for task in tasks])
    median = quantiles[..., int(np.argmin(np.abs(levels - 0.5)))]
    flat = crps(quantiles.reshape(-1, len(levels)), levels, truth.ravel()).reshape(truth.shape)
    cells = len(tasks) * horizon
    return pd.DataFrame(
        {
            "symbol": np.repeat([task.symbol for task in tasks], horizon),
            "origin": np.repeat(np.array([task.origin for task in tasks]), horizon),
            "until": np.repeat(targets[:, -1], horizon),
            "step": np.tile(np.arange(1, horizon + 1), len(tasks)),
            "crps": (flat / last[:, None] * 100).reshape(cells),
            "said": (median / last[:, None] - 1).reshape(cells),
            "was": (truth / last[:, None] - 1).reshape(cells),
        }
    )


def _skill(pairs: np.ndarray) -> np.ndarray:
    ours, theirs = pairs.mean(axis=0)
    return np.array([1 - ours / theirs])


def _history(arrays: WindowArrays, number: int) -> History:
    offsets = np.load(arrays.folder / "offsets.npy")
    rows = slice(int(offsets[number]), int(offsets[number + 1]))
    factors = np.load(arrays.folder / "factors.npy", mmap_mode="r")[rows]
    return History(
        arrays.symbols[number],
        np.asarray(arrays.stamps[rows]),
        np.asarray(arrays.bars[rows], dtype=np.float64),
        factors[:, 0].copy(),
        factors[:, 1].copy(),
    )
