"""The volatility model: a linear regression of the log variance of each of the next bars, and the shape of the law.

The log variance of the bar k steps ahead, relative to the level of the origin, is linear in the inputs (`features`): a
ridge regression in closed form per step. The variances of steps 1 … k add up to that of the log return over k steps.
The law is symmetric about the last close, with the empirical quantiles of the standardised returns of training.

After HAR (Corsi, 2009, Journal of Financial Econometrics 7), on log ranges, with leverage, gaps, volume, the market's
own ranges and the season of reports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from assets.forecasting.volatility.features import Features, PanelFeatures, calendar_inputs
from assets.forecasting.volatility.panel import Panel
from resources.errors import CandlecastError
from resources.publish import publish_bytes

# Of the inputs and their order; weights of another version are refused.
INPUTS_VERSION = 1
RIDGE = 100.0
# Bars before an origin of training: its level and its year's mean are known then.
LEAST_BARS = 300
# Bars with an origin, below which a fit to that many inputs is worth less than the EWMA variance alone.
LEAST_ORIGINS = 250
# Beyond these steps the weights are those of the last one.
MOST_STEPS = 20
# Bars times symbols that a fit reads at most, the newest: about 1.3 GiB of inputs.
MOST_CELLS, MOST_BARS = 4_000_000, 10_000
BLOCK = 32
# Levels of the absolute standardised return at which the shape of the law is kept.
SHAPE_LEVELS = np.round(np.arange(0.0, 0.9991, 0.001), 3)


class TooFewOriginsError(CandlecastError):
    """A training range has fewer origins than a fit needs; the message names the range and the remedy."""


@dataclass(frozen=True)
class VolatilityWeights:
    """A fitted model.

    Attributes:
        weights: (steps, inputs + 1) of the log variance relative to the level; the last one is the constant.
        shape: (steps, SHAPE_LEVELS) quantiles of the absolute standardised return over 1 … steps bars.
    """

    weights: np.ndarray
    shape: np.ndarray

    @property
    def steps(self) -> int:
        """The longest horizon."""
        return len(self.weights)

    @classmethod
    def of_random_walk(cls, steps: int, inputs: int) -> VolatilityWeights:
        """Weights of zero and the normal law: the EWMA variance of the origin at every step."""
        from scipy.special import ndtri

        steps = min(steps, MOST_STEPS)
        return cls(np.zeros((steps, inputs)), np.tile(ndtri((1 + SHAPE_LEVELS) / 2), (steps, 1)))

    def _fitted(self, horizon: int) -> np.ndarray:
        """The fitted step of each of 1 … horizon."""
        return np.minimum(np.arange(horizon), self.steps - 1)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        # safetensors writes the memory of an array as it lies, whatever its strides.
        tensors = {"weights": np.ascontiguousarray(self.weights), "shape": np.ascontiguousarray(self.shape)}
        save_file(tensors, folder / "model.safetensors")
        config = {
            "model_type": "volatility",
            "inputs_version": INPUTS_VERSION,
            "steps": self.steps,
            "inputs": self.weights.shape[1],
        }
        publish_bytes(folder / "config.json", json.dumps(config, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> VolatilityWeights:
        """Read what `save` wrote.

        Raises:
            CandlecastError: it was written by another version, whose inputs differ.
        """
        config = json.loads((folder / "config.json").read_text())
        if config.get("inputs_version") != INPUTS_VERSION:
            raise CandlecastError(
                f"the volatility model in {folder} reads inputs of version {config.get('inputs_version')}, this is "
                f"{INPUTS_VERSION}: materialise volatility_model again, or set volatility.base to other weights"
            )
        found = load_file(folder / "model.safetensors")
        return cls(found["weights"], found["shape"])

    def deviations(self, design: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Standard deviations of the log return over 1 … k bars, (tasks, k), from (tasks, k, inputs + 1) inputs.

        Steps beyond the fitted ones have the weights of the last one. Each task's sums run over its own inputs in a
        fixed order: the same bits whatever stands beside it.
        """
        relative = (design * self.weights[self._fitted(design.shape[1])]).sum(axis=-1)
        return np.asarray(np.sqrt(np.cumsum(np.exp(np.clip(relative, -6, 6) + level[:, None]), axis=1)))

    def quantiles(self, deviations: np.ndarray, levels: Sequence[float]) -> np.ndarray:
        """Quantiles of the log return, (tasks, k, levels), from standard deviations (tasks, k)."""
        distance = np.abs(2 * np.asarray(levels) - 1)
        steps = self._fitted(deviations.shape[1])
        shape = np.stack([np.interp(distance, SHAPE_LEVELS, one) for one in self.shape[steps]])
        return np.asarray(deviations[..., None] * np.sign(np.asarray(levels) - 0.5) * shape)


def fit(
    panel: Panel, first: np.datetime64, last: np.datetime64, steps: int, features: Features | None = None
) -> VolatilityWeights:
    """The model fitted to every origin from `first` on whose last target is not after `last`.

    Two passes in blocks of origins: memory does not grow with the length of the range.

    Args:
        steps: the horizon; at most `MOST_STEPS` are fitted.
        features: the inputs; None: those of the volatility model.

    Raises:
        TooFewOriginsError: fewer than `LEAST_ORIGINS` bars there are an origin with `LEAST_BARS` bars up to it.
    """
    steps = min(steps, MOST_STEPS)
    features = features or PanelFeatures(panel)
    origins = 0
    grams: list[np.ndarray] = []
    moments: list[np.ndarray] = []
    for block in _blocks(panel, features, first, last, steps):
        grams.append(np.matmul(block.design.transpose(1, 2, 0), block.design.transpose(1, 0, 2)))
        moments.append(np.einsum("nki,nk->ki", block.design, block.target))
        grams, moments = [np.sum(grams, axis=0)], [np.sum(moments, axis=0)]
        origins += block.origins
    if origins < LEAST_ORIGINS:
        raise TooFewOriginsError(
            f"{origins} bars between {first} and {last} have {LEAST_BARS} bars of a symbol before and {steps} after "
            f"them, {LEAST_ORIGINS} are needed to fit: ingest more history, or widen windows.train"
        )
    ridge = RIDGE * np.eye(grams[0].shape[-1])
    weights = np.linalg.solve(grams[0] + ridge, moments[0][..., None])[..., 0]
    fitted = VolatilityWeights(weights, np.empty((steps, 0)))
    standardised = np.concatenate(
        [
            (np.abs(block.moved) / fitted.deviations(block.design, block.level)).astype(np.float32)
            for block in _blocks(panel, features, first, last, steps)
        ]
    )
    shape = np.maximum.accumulate(np.quantile(standardised.astype(np.float64), SHAPE_LEVELS, axis=0), axis=0).T
    shape[:, 0] = 0.0  # the median is the last close
    return VolatilityWeights(weights, shape)


def design_of(
    features: PanelFeatures, row: int, columns: np.ndarray, origin: np.datetime64, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (tasks, steps, inputs + 1) and levels (tasks,) of the symbols `columns` at one bar of a panel.

    Args:
        targets: (steps,) or (tasks, steps) datetime64.
    """
    targets = np.broadcast_to(targets, (len(columns), targets.shape[-1]))
    found = features.inputs(np.array([row]), targets.shape[1])
    calendar = calendar_inputs(np.full(len(columns), origin), targets)
    return _joined(found.own[0, columns], found.reports[0, columns], calendar), found.level[0, columns]


def input_count() -> int:
    """The number of inputs of a step, with the constant."""
    empty = np.zeros((2, 1))
    panel = Panel(np.zeros(2, "datetime64[s]"), ("",), *[empty] * 5)
    design, _ = design_of(PanelFeatures(panel), 1, np.array([0]), panel.stamps[1], panel.stamps[:1])
    return int(design.shape[-1])


@dataclass(frozen=True)
class _Block:
    """Training samples: design (n, steps, inputs + 1), target and moved (n, steps), level (n,), of some origins."""

    design: np.ndarray
    target: np.ndarray
    moved: np.ndarray
    level: np.ndarray
    origins: int


def _blocks(
    panel: Panel, features: Features, first: np.datetime64, last: np.datetime64, steps: int
) -> Iterator[_Block]:
    """The samples of the origins, of a few origins at a time."""
    start = int(np.searchsorted(panel.stamps, first.astype(panel.stamps.dtype)))
    days = panel.stamps.astype("datetime64[D]")
    end = int(np.searchsorted(days, last.astype("datetime64[D]"), side="right")) - steps
    ages = np.cumsum(np.isfinite(panel.returns), axis=0)
    ahead = np.arange(1, steps + 1)
    for row in range(start, end, BLOCK):
        rows = np.arange(row, min(row + BLOCK, end))
        targets = rows[:, None] + ahead
        moved = panel.trend[targets] - panel.trend[rows][:, None]
        day = features.day[targets]
        level = features.level[rows]
        usable = (ages[rows] >= LEAST_BARS) & np.isfinite(level) & np.isfinite(moved).all(1) & np.isfinite(day).all(1)
        at, column = np.nonzero(usable)
        if not len(at):
            continue
        found = features.inputs(rows, steps)
        calendar = features.calendar(panel.stamps[rows], panel.stamps[targets])
        yield _Block(
            _joined(found.own[at, column], found.reports[at, column], calendar[at]),
            day[at, :, column] - level[at, column][:, None],
            moved[at, :, column],
            level[at, column],
            len(np.unique(at)),
        )


def _joined(own: np.ndarray, reports: np.ndarray, calendar: np.ndarray) -> np.ndarray:
    """Inputs that all steps share, (n, own), and those of a step, (n, steps, …), with a constant."""
    count, steps = reports.shape[:2]
    parts = (
        np.broadcast_to(own[:, None], (count, steps, own.shape[1])),
        reports,
        np.broadcast_to(calendar, (count, steps, calendar.shape[-1])),
        np.ones((count, steps, 1)),
    )
    return np.concatenate(parts, axis=-1)
