"""Forecast scores of a checkpoint (CRPS, rank correlation) over origins, and the CRPS skill of one against another.

A lower token loss does not imply better forecasts, so checkpoints are compared by their forecasts. These are those of
the forecast stage, sampled at top_p = 1. Not here: what follows from a comparison (promotion).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from assets.forecasting.bootstrap import MIN_BLOCKS, block_count, block_draws, bootstrap_interval
from assets.forecasting.forecaster import ForecastTask, Predict
from assets.forecasting.metrics import crps, rank_ic
from assets.market.gaps import without_filled
from assets.market.history import CLOSE, BarHistory
from assets.training.data.dataset import WindowArrays
from assets.training.fit.lr_schedule import evenly_spaced
from resources.errors import CandlecastError

CONFIDENCE, DRAWS = 0.9, 2000
FEWEST_ORIGINS = 6
CLOSE_NAME = "close"
SCORE_COLUMNS = ("symbol", "origin", "until", "step", "crps", "predicted", "actual")


class NothingScoredError(CandlecastError):
    """None of some validation forecasts can be made; the message has the first reason."""


@dataclass(frozen=True)
class SkillComparison:
    """Mean CRPS of one model and of a reference over the same origins, with skill = 1 - ours / theirs.

    Attributes:
        ours: mean CRPS of the model, in percent of the close.
        theirs: mean CRPS of the reference, in percent of the close.
        skill: above 0, the model is better.
        low: lower end of the interval of the skill; none if there are too few origins for an interval.
        high: upper end.
        origins: number of origins that both forecast.
    """

    ours: float
    theirs: float
    skill: float
    low: float | None
    high: float | None
    origins: int

    def to_dict(self) -> dict[str, float | None]:
        """The fields by name, as JSON values."""
        return asdict(self)

    @property
    def shows_better(self) -> bool:
        """Whether the interval is above 0."""
        return self.low is not None and self.low > 0

    @property
    def shows_no_worse(self) -> bool:
        """Whether there is an interval, and it is not below 0."""
        return self.high is not None and self.high >= 0

    @property
    def text(self) -> str:
        """The result as one sentence."""
        if self.low is None or self.high is None:
            return (
                f"undecided: {self.origins} origins in common; an interval needs {FEWEST_ORIGINS}, and at least "
                f"{MIN_BLOCKS} whose forecasts share no bar: widen windows.validation (skill {self.skill:+.1%})"
            )
        result = "better" if self.low > 0 else "worse" if self.high < 0 else "no significant difference"
        return (
            f"{result}: CRPS {self.ours:.4g} % against {self.theirs:.4g} %, skill {self.skill:+.1%} "
            f"({CONFIDENCE:.0%} interval {self.low:+.1%} … {self.high:+.1%}) over {self.origins} origins"
        )


def validation_tasks(arrays: WindowArrays, most_origins: int) -> list[ForecastTask]:
    """Forecast tasks of the validation range: all symbols at evenly spaced origins of its windows."""
    windows = np.asarray(arrays.windows("validation"), dtype=np.int64)
    rows = windows[:, 1] + arrays.shape.lookback - 1
    timestamps = np.asarray(arrays.timestamps)[rows]
    origins = np.unique(timestamps)
    chosen = origins[evenly_spaced(len(origins), most_origins)]
    histories = list(histories_in(arrays).values())
    wanted = np.flatnonzero(np.isin(timestamps, chosen))
    ordered = wanted[np.lexsort((windows[wanted, 0], timestamps[wanted]))]
    found = [(histories[int(windows[n, 0])], timestamps[n]) for n in ordered]
    tasks = [ForecastTask(one.symbol, origin, one, one.index_of(origin) or 0) for one, origin in found]
    # Histories are without filled bars: where a lookback held some, it may be too short here.
    return [task for task in tasks if task.index + 1 >= arrays.shape.lookback]


def histories_in(arrays: WindowArrays) -> dict[str, BarHistory]:
    """The histories of training arrays by symbol, without filled bars: forecasters fill their own input."""
    return {symbol: _history(arrays, number) for number, symbol in enumerate(arrays.symbols)}


def tasks_at_origins(
    histories: Mapping[str, BarHistory], origins: Sequence[np.datetime64], lookback: int, horizon: int
) -> list[ForecastTask]:
    """Forecast tasks of all symbols at the origins with a complete lookback before and a complete horizon after."""
    tasks = []
    for origin in origins:
        for symbol, history in histories.items():
            index = history.index_of(origin)
            if index is not None and index + 1 >= lookback and index + horizon < len(history):
                tasks.append(ForecastTask(symbol, origin, history, index))
    return tasks


def score_forecasts(
    predict: Predict, tasks: Sequence[ForecastTask], horizon: int, levels: Sequence[float], batch_size: int
) -> pd.DataFrame:
    """Scores of tasks whose actual closes are in their histories, one row per task and step, `SCORE_COLUMNS`.

    `until` is the timestamp of the last step, `crps` is in percent of the close at the origin; `predicted` (median)
    and `actual` are returns since the origin. Tasks that the model cannot forecast have no row.

    Raises:
        NothingScoredError: it can forecast none.
    """
    parts, failures = [], list[str]()
    for first in range(0, len(tasks), batch_size):
        batch = list(tasks[first : first + batch_size])
        targets = np.stack([task.history.stamps[task.index + 1 : task.index + 1 + horizon] for task in batch])
        prediction = predict(batch, targets)
        quantiles = prediction.quantiles[:, :, prediction.fields.index(CLOSE_NAME)]
        failures += prediction.failures.values()
        kept = [row for row in range(len(batch)) if row not in prediction.failures]
        if kept:
            parts.append(_scores([batch[row] for row in kept], targets[kept], quantiles[kept], np.asarray(levels)))
    if not parts and failures:
        raise NothingScoredError(f"none of {len(failures)} validation forecasts can be made, the first: {failures[0]}")
    return pd.concat(parts, ignore_index=True)


def mean_rank_ic(scores: pd.DataFrame) -> float:
    """Mean rank correlation across symbols of predicted and actual return, over origins and steps; NaN if undefined."""
    predicted, actual = (
        scores.pivot(index=["origin", "step"], columns="symbol", values=name) for name in ("predicted", "actual")
    )
    return float(rank_ic(predicted, actual).mean())


def compare_skill(ours: pd.DataFrame, theirs: pd.DataFrame, seed: int) -> SkillComparison:
    """The skill of `ours` against `theirs` over the forecasts that both made, with a block bootstrap interval.

    The same interval as on the scoreboard. Where there are few origins, the blocks are shorter than there, but never
    shorter than the overlap of the forecasts. The origins of `validation_tasks` are evenly spaced.
    """
    both = ours.merge(theirs, on=["symbol", "origin", "step"], suffixes=("", "_other"))
    pairs = both.groupby("origin")[["crps", "crps_other"]].mean().to_numpy()
    skill = float(_skill(pairs.mean(axis=0)))
    low = high = None
    weights = np.ones(len(pairs))
    blocks = block_count(weights, _overlap(both)) if len(pairs) >= FEWEST_ORIGINS else 0
    if blocks:
        drawn = _skill(block_draws(pairs, weights, blocks, DRAWS, seed))
        low, high = bootstrap_interval(drawn, skill, 1 - CONFIDENCE, 1, blocks)
    return SkillComparison(float(pairs[:, 0].mean()), float(pairs[:, 1].mean()), skill, low, high, len(pairs))


def _overlap(scores: pd.DataFrame) -> int:
    """The number of neighbouring origins whose forecasts share a bar: the median, as a suspended symbol reaches far."""
    until = scores.groupby("origin")["until"].median()
    origins = until.index.to_numpy()
    shared = np.searchsorted(origins, until.to_numpy()) - np.arange(len(origins))
    return max(1, int(np.ceil(np.median(shared))))


def _scores(
    tasks: Sequence[ForecastTask], targets: np.ndarray, quantiles: np.ndarray, levels: np.ndarray
) -> pd.DataFrame:
    """`SCORE_COLUMNS` of a batch.

    Args:
        targets: (tasks, steps) datetime64[s].
        quantiles: (tasks, steps, levels) closes.
    """
    horizon = targets.shape[1]
    actual = np.stack(
        [task.history.closes_as_of(task.index, first=task.index + 1, last=task.index + horizon) for task in tasks]
    )
    last = np.array([task.history.quoted[task.index, CLOSE] for task in tasks])
    median = quantiles[..., int(np.argmin(np.abs(levels - 0.5)))]
    flat = crps(quantiles.reshape(-1, len(levels)), levels, actual.ravel()).reshape(actual.shape)
    cells = len(tasks) * horizon
    columns = (
        np.repeat([task.symbol for task in tasks], horizon),
        np.repeat(np.array([task.origin for task in tasks]), horizon),
        np.repeat(targets[:, -1], horizon),
        np.tile(np.arange(1, horizon + 1), len(tasks)),
        (flat / last[:, None] * 100).reshape(cells),
        (median / last[:, None] - 1).reshape(cells),
        (actual / last[:, None] - 1).reshape(cells),
    )
    return pd.DataFrame(dict(zip(SCORE_COLUMNS, columns, strict=True)))


def _skill(means: np.ndarray) -> np.ndarray:
    """(…, 2) → (…)."""
    skill: np.ndarray = 1 - means[..., 0] / means[..., 1]
    return skill


def _history(arrays: WindowArrays, number: int) -> BarHistory:
    rows = slice(int(arrays.offsets[number]), int(arrays.offsets[number + 1]))
    factors = arrays.factors[rows]
    history = BarHistory(
        arrays.symbols[number],
        np.asarray(arrays.timestamps[rows]),
        np.asarray(arrays.bars[rows], dtype=np.float64),
        factors[:, 0].copy(),
        factors[:, 1].copy(),
        filled=None if arrays.filled is None else np.asarray(arrays.filled[rows]),
    )
    return without_filled(history)
