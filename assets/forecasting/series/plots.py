"""Fan charts of series: the end of the history, the median, the intervals, and the actuals of a holdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.forecasting.intervals import MEDIAN, drawn_intervals
from assets.forecasting.series.series import EVERY, Series
from assets.plots import COLOURS, draw_intervals, figure, label, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS, COLUMNS = 8, 2
# History that is drawn: at least this many rows, and this many horizons.
SHOWN_ROWS, SHOWN_HORIZONS = 48, 4


def series_chart(
    histories: Sequence[Series], quantiles: pd.DataFrame, levels: Sequence[float], model: str
) -> tuple[bytes, int]:
    """Fan charts as PNG, one per series and target, and their number; the first `MOST_PANELS` of them.

    Args:
        quantiles: the columns id, target, timestamp, one per level; `actual` after a holdout.
    """
    panels = [(one, place) for one in histories for place in range(len(one.names))][:MOST_PANELS]
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with figure(7.2 if columns == 1 else 4.6 * columns, (3.0 if columns == 1 else 2.5) * rows) as drawn:
        for number, (one, place) in enumerate(panels):
            mine = quantiles[(quantiles["id"] == one.id) & (quantiles["target"] == one.names[place])]
            _draw(drawn.add_subplot(rows, columns, number + 1), one, place, mine, levels, model)
        drawn.axes[0].legend(loc="best")
        return png(drawn), len(panels)


def _draw(axes: Axes, series: Series, place: int, forecast: pd.DataFrame, levels: Sequence[float], model: str) -> None:
    shown = max(SHOWN_ROWS, SHOWN_HORIZONS * series.horizon)
    past, ahead = _on_axis(series.stamps[-shown:]), _on_axis(series.stamps[-1:].append(series.ahead))
    values = series.targets[place, -shown:]
    colour = COLOURS.get(model, COLOURS["chronos2"])

    def from_origin(column: str) -> np.ndarray:
        return np.append(values[-1:], forecast[column].to_numpy(dtype=np.float64))

    bands = drawn_intervals(levels)
    ends = [(f"{band.text} interval", from_origin(str(band.low)), from_origin(str(band.high))) for band in bands]
    draw_intervals(axes, ahead, ends, colour)
    axes.plot(past, values, color=COLOURS["actual"], linewidth=1.1, label="history")
    if "actual" in forecast:
        axes.plot(ahead, from_origin("actual"), color=COLOURS["actual"], linewidth=1.1, linestyle="--", label="actual")
    if str(MEDIAN) in forecast:
        axes.plot(ahead, from_origin(str(MEDIAN)), color=colour, label="median")
    axes.axvline(past[-1], color="#999999", linewidth=0.8)
    name = series.names[place]
    axes.set_title(f"{label(model)}: {name if series.id in (name, EVERY) else f'{series.id}, {name}'}")
    _format_axis(axes, past)


def _on_axis(stamps: pd.Index) -> np.ndarray:
    """Timestamps for matplotlib: local times, or numbers."""
    if isinstance(stamps, pd.DatetimeIndex):
        return np.asarray(stamps.tz_localize(None).to_numpy())
    return np.asarray(stamps.to_numpy())


def _format_axis(axes: Axes, stamps: np.ndarray) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if np.issubdtype(stamps.dtype, np.datetime64):
        locator = AutoDateLocator(maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
