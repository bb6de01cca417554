"""Chronos-2's quantiles of targets, in prices, ranges and shares of the origin.

Corrections of the output of the close:

- Neighbouring quantiles cross in a few per cent of pairs: they are sorted, and the rate is reported.
- Weights answer a limited number of steps at once: 16 for the packaged ones, 1,024 for the published ones. Further
  steps are blocks of independent increments, see `extend_quantiles`. chronos' own long-horizon heuristic feeds
  quantiles back as history and drops their spread: the 90 % band of the packaged weights shrinks by 27 % at step 17.
- `forecasts.recentre`: the quantiles are shifted so that the median is the last close. A compact model that is trained
  on log closes and their negatives learns a width and a shape; its median is noise around "no change", and costs score.
  Recentred, it predicts no direction, and has no score for it. The median of standardised_close starts at the last
  close, and is little more than the drift of symbols that survived. That of published weights is left.

Quantiles of log returns become those of the close as if returns were independent, see `accumulate_returns`; those of
standardised_close are of the return over all steps and need no assumption, see `standardised`. Range and
volume are levels: they are not recentred, and beyond the steps of the weights they keep those of the last step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assets.forecasting.chronos2.standardised import TARGET, log_quantiles

FIELD_ORDER = ("close", "range", "volume")


def field_quantiles(
    raw: np.ndarray,
    names: Sequence[str],
    last_close: np.ndarray,
    scale: np.ndarray,
    horizon: int,
    median: int,
    recentre: bool,
) -> tuple[tuple[str, ...], np.ndarray]:
    """The fields of the targets, and their quantiles, sorted: (series, horizon, fields, levels) float64.

    Fields are close (prices), range (log of high / low) and volume (shares), as of the origin.

    Args:
        raw: (series, targets, steps, levels), as the model returns them.
        names: of the targets.
        last_close: (series,) log of the close at the origin.
        scale: (series,) the unit of quantiles of standardised_close, as of the origin; otherwise not read.
        median: the number of the level 0.5.
        recentre: whether the median of the close is the last close.
    """
    ordered = dict(zip(names, np.moveaxis(np.sort(raw, axis=-1), 1, 0), strict=True))
    found: dict[str, np.ndarray] = {}
    for name, values in ordered.items():
        if name in ("close", "log_return", TARGET):
            closes = _log_closes(name, values, last_close, scale, median)
            extended = extend_quantiles(closes, last_close, horizon, median)
            found["close"] = quantiles_to_prices(extended, last_close, median if recentre else None)
        else:
            extended = values[:, np.minimum(np.arange(horizon), values.shape[1] - 1)]
            found[name] = np.maximum(np.expm1(extended) if name == "volume" else extended, 0.0)
    fields = tuple(field for field in FIELD_ORDER if field in found)
    return fields, np.stack([found[field] for field in fields], axis=2)


def _log_closes(name: str, values: np.ndarray, last_close: np.ndarray, scale: np.ndarray, median: int) -> np.ndarray:
    if name == TARGET:
        return log_quantiles(values, last_close, scale)
    return values if name == "close" else accumulate_returns(values, last_close, median)


def accumulate_returns(ordered: np.ndarray, last_close: np.ndarray, median: int) -> np.ndarray:
    """Log quantiles of the close from those of each step's log return: (series, steps, levels), both.

    Marginal quantiles do not determine the distribution of a sum. Returns are taken as independent, so medians add up,
    and so do the squared distances of a level from the median, as for normal distributions. Fat tails thin out too
    slowly, and correlation between steps (trend, clustered volatility) is not modelled.
    """
    centre = ordered[..., median, None]
    distance = np.sqrt(np.cumsum((ordered - centre) ** 2, axis=1))
    side = np.sign(np.arange(ordered.shape[2]) - median)
    return np.asarray(last_close[:, None, None] + np.cumsum(centre, axis=1) + side * distance)


def extend_quantiles(ordered: np.ndarray, last_close: np.ndarray, horizon: int, median: int) -> np.ndarray:
    """Log quantiles of `steps` steps continued to `horizon` steps: (tasks, steps, levels) → (tasks, horizon, levels).

    The path is taken for a sum of independent increments that are distributed as those of the first block of steps. So
    medians add up, and the squared distances of the quantiles from the median do: a random walk's band keeps growing
    with the square root of the step. Distances do not shrink with the step: the packaged weights, trained for 10 steps,
    have a band at step 11 that is 12 % narrower than at step 10.

    Args:
        ordered: increasing with level. Returned as they are if they reach the horizon.
        last_close: (tasks,) log of the close at the origin.
        median: the number of the level 0.5.
    """
    steps = ordered.shape[1]
    if horizon <= steps:
        return ordered[:, :horizon]
    blocks, within = np.divmod(np.arange(horizon), steps)
    centre = ordered[..., median, None]
    known = np.maximum.accumulate(np.abs(ordered - centre), axis=1)
    distance = np.sqrt(blocks[:, None] * known[:, -1:] ** 2 + known[:, within] ** 2)
    side = np.sign(np.arange(ordered.shape[2]) - median)
    further = blocks[:, None] * (centre[:, -1:] - last_close[:, None, None])
    return np.asarray(centre[:, within] + further + side * distance)


def quantiles_to_prices(raw: np.ndarray, last_close: np.ndarray, median: int | None) -> np.ndarray:
    """Log quantiles (tasks, steps, levels) → sorted prices.

    Args:
        last_close: (tasks,) log of the close at the origin.
        median: the number of the level that is shifted onto `last_close`; None: no shift.
    """
    ordered = np.sort(raw, axis=-1)
    if median is not None:
        ordered = ordered - ordered[..., median, None] + last_close[:, None, None]
    return np.asarray(np.exp(ordered))
