"""One series on regular timestamps: its history, what is known of the steps to forecast, and rows of its forecast."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from assets.forecasting.series.columns import Values

FEWEST_VALUES = 3
# The id of the only series of a frame with several targets.
EVERY = "all"
# Columns of a forecast before those of its levels.
INDEX = ["id", "target", "step", "timestamp"]


class SeriesError(ValueError):
    """Why one series cannot be forecast, with the remedy."""


@dataclass(frozen=True)
class Series:
    """One series up to its last value, and what is known of the steps to forecast.

    Attributes:
        stamps: (n,) timestamps, regular and increasing.
        targets: (targets, n) float64, NaN where unknown.
        past: (n,) values of each covariate, float64 or text; those that are known in advance are among them.
        ahead: (horizon,) timestamps to forecast.
        future: (horizon,) values of each covariate that is known in advance.
    """

    id: Hashable
    names: tuple[str, ...]
    stamps: pd.Index
    targets: np.ndarray
    past: Mapping[str, Values]
    ahead: pd.Index
    future: Mapping[str, Values] = field(default_factory=dict)

    @property
    def horizon(self) -> int:
        return len(self.ahead)


def without_end(series: Series, steps: int) -> tuple[Series, np.ndarray]:
    """A series without its last `steps` timestamps, which are to be forecast, and the actuals: (targets, steps).

    Raises:
        SeriesError: too little is left.
    """
    if len(series.stamps) < steps + FEWEST_VALUES:
        raise SeriesError(
            f"{len(series.stamps)} timestamps are too few for a holdout of {steps}: at least {FEWEST_VALUES} must be "
            "left"
        )
    cut = replace(
        series,
        stamps=series.stamps[:-steps],
        targets=series.targets[:, :-steps],
        past={name: values[:-steps] for name, values in series.past.items()},
        ahead=series.stamps[-steps:],
        future={name: series.past[name][-steps:] for name in series.future},
    )
    require_values(cut)
    return cut, series.targets[:, -steps:]


def require_values(series: Series) -> None:
    """Raise a SeriesError if a target has too few values."""
    counts = np.isfinite(series.targets).sum(axis=1)
    if counts.min() < FEWEST_VALUES:
        name = series.names[int(np.argmin(counts))]
        raise SeriesError(
            f"column {name} has {counts.min()} values, at least {FEWEST_VALUES} are needed: give a longer history"
        )


def forecast_rows(series: Sequence[Series], quantiles: Sequence[np.ndarray], levels: np.ndarray) -> pd.DataFrame:
    """A row per series, target and step, with the columns of `INDEX` and one per level, named by it.

    Args:
        quantiles: of each series (targets, horizon, levels).
    """
    names = [str(level) for level in levels.tolist()]
    if not series:
        return pd.DataFrame(columns=[*INDEX, *names])
    stamps = [one.ahead[np.tile(np.arange(one.horizon), len(one.names))] for one in series]
    columns = {
        "id": [one.id for one in series for _ in range(len(one.names) * one.horizon)],
        "target": np.concatenate([np.repeat(np.array(one.names, dtype=object), one.horizon) for one in series]),
        "step": np.concatenate([np.tile(np.arange(1, one.horizon + 1), len(one.names)) for one in series]),
        "timestamp": stamps[0].append(stamps[1:]),
    }
    values = np.concatenate([own.reshape(-1, len(levels)) for own in quantiles])
    return pd.DataFrame(columns | dict(zip(names, values.T, strict=True)))
