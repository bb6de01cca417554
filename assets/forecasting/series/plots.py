"""Fan charts of series: the end of the history, the median, the intervals, and the actuals of a holdout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.forecasting.fan import draw_fan, mark_origin
from assets.forecasting.series.series import EVERY, Series
from assets.plots import COLOURS, figure, format_dates, label, model_colour, png

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

    def from_origin(column: str) -> np.ndarray:
        return np.append(values[-1:], forecast[column].to_numpy(dtype=np.float64))

    draw_fan(axes, ahead, {level: from_origin(str(level)) for level in levels}, model_colour(model))
    axes.plot(past, values, color=COLOURS["actual"], linewidth=1.1, label="history")
    if "actual" in forecast:
        axes.plot(ahead, from_origin("actual"), color=COLOURS["actual"], linewidth=1.1, linestyle="--", label="actual")
    mark_origin(axes, past[-1])
    name = series.names[place]
    axes.set_title(f"{label(model)}: {name if series.id in (name, EVERY) else f'{series.id}, {name}'}")
    if isinstance(series.stamps, pd.DatetimeIndex):
        format_dates(axes, 7)


def _on_axis(stamps: pd.Index) -> np.ndarray:
    """Timestamps for matplotlib: local times, or numbers."""
    if isinstance(stamps, pd.DatetimeIndex):
        return np.asarray(stamps.tz_localize(None).to_numpy())
    return np.asarray(stamps.to_numpy())
