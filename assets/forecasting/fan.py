"""The common parts of fan charts: intervals, median, the line at the origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from assets.forecasting.intervals import MEDIAN, drawn_intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_fan(axes: Axes, at: Any, quantiles: Mapping[float, np.ndarray], colour: str) -> None:
    """Draw the intervals of quantiles by level, the widest first, each darker than the one around it, and the median.

    The shades are opaque, so that those of the legend are those of the intervals.
    """
    from matplotlib.colors import to_rgb

    for number, interval in enumerate(drawn_intervals(list(quantiles)), start=1):
        light = 0.82**number
        shade = tuple(light + (1 - light) * part for part in to_rgb(colour))
        ends = quantiles[interval.low], quantiles[interval.high]
        axes.fill_between(at, *ends, color=shade, linewidth=0, label=f"{interval.text} interval")
    if MEDIAN in quantiles:
        axes.plot(at, quantiles[MEDIAN], color=colour, label="median")


def mark_origin(axes: Axes, origin: Any) -> None:
    """A vertical line at the last value before the forecast."""
    axes.axvline(origin, color="#999999", linewidth=0.8)
