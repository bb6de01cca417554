"""A picture of a forecast: candles of the history, the fan of the close, and the volume below.

matplotlib is imported with the first picture. The x axis counts bars: nights, weekends and holidays take no space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from kronos.errors import InputError
from kronos.features import FEATURES
from kronos.frames import Timestamps, frame_timestamps, frame_values, history_from_frame
from kronos.path_forecast import PathResult
from kronos.validation import check_integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
# Okabe and Ito: distinguishable with colour vision deficiency.
UP, DOWN, FORECAST, ACTUAL = "#009E73", "#D55E00", "#0072B2", "#111111"
BODY, TICKS = 0.64, 7


def plot_forecast(
    df: pd.DataFrame,
    forecast: PathResult | pd.DataFrame | ArrayLike,
    *,
    x_timestamp: Timestamps | None = None,
    y_timestamp: Timestamps | None = None,
    actual: pd.DataFrame | None = None,
    series: int = 0,
    past_bars: int = 60,
    intervals: Sequence[float] = (0.5, 0.9),
    title: str | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draw the last bars of a history as candles, and a forecast as a fan of its closes or, of one path, as candles.

    Args:
        df: the history, as for `KronosPredictor.predict`.
        forecast: a `PathResult`, paths (path, step, 6) or closes (path, step): a fan. A frame of bars as from
            `predict`, or bars (step, 6): candles.
        x_timestamp: the timestamps of the history. Default: the index or the timestamp column of `df`.
        y_timestamp: the timestamps of the forecast. Default: its own index; without one the bars are numbered.
        actual: the bars that followed, at most as many as steps; their closes are drawn over the forecast.
        series: of a `PathResult`, the number of the series that `df` is the history of.
        past_bars: bars of the history that are shown.
        intervals: central intervals of the fan, by their probability.
        title: above the picture.
        figure: a figure to draw into. Default: a new one; `figure.savefig("forecast.png")` writes it.

    Volume has a panel of its own where the history has any; of a fan its median is drawn.

    Raises InputError for a forecast of another shape, an unknown series or an interval outside 0 … 1.
    """
    bars, stamps = history_from_frame("history", df, x_timestamp)
    if not len(bars):
        raise InputError("series history: no rows; at least 1 bar is needed")
    paths, index = _paths(forecast, series)
    if y_timestamp is not None:
        index = frame_timestamps(y_timestamp, str(series), "y_timestamp")
    if index is not None and len(index) != paths.shape[1]:
        raise InputError(f"y_timestamp has {len(index)} entries for {paths.shape[1]} steps of the forecast")
    if check_integer("past_bars", past_bars) < 1:
        raise InputError(f"past_bars={past_bars} must be 1 or more")
    if not all(0 < one < 1 for one in intervals):
        raise InputError(f"intervals must be probabilities between 0 and 1, such as 0.9, got {tuple(intervals)}")
    bars, stamps = bars[-past_bars:], stamps[-past_bars:]
    known = None if actual is None else frame_values(actual, "actual")
    if known is not None and len(known) > paths.shape[1]:
        raise InputError(f"actual has {len(known)} bars for {paths.shape[1]} steps of the forecast")
    figure = figure or _new_figure()
    with_volume = bool(np.nansum(bars[:, VOLUME]) > 0)
    prices, *below = _axes(figure, with_volume)
    _draw_prices(prices, bars, paths, known, intervals)
    if below:
        _draw_volume(below[0], bars, paths, known)
    _label_dates((below or [prices])[0], stamps, index, paths.shape[1])
    if title:
        prices.set_title(title, loc="left", fontsize=10, fontweight="bold")
    return figure


def _paths(
    forecast: PathResult | pd.DataFrame | ArrayLike, series: int
) -> tuple[NDArray[np.float64], pd.DatetimeIndex | None]:
    """Paths (path, step, 6), NaN where only closes are known, and their timestamps."""
    if isinstance(forecast, PathResult):
        if not 0 <= check_integer("series", series) < len(forecast.paths):
            raise InputError(f"series={series}, but the forecast has {len(forecast.paths)} series, counted from 0")
        return forecast.paths[series].astype(np.float64), forecast.index[series] if forecast.index else None
    if isinstance(forecast, pd.DataFrame):
        index = forecast.index if isinstance(forecast.index, pd.DatetimeIndex) else None
        return frame_values(forecast, "forecast")[None], index
    values = np.asarray(forecast, dtype=np.float64)
    if values.ndim == 2 and values.shape[1] == len(FEATURES):
        return values[None], None
    if values.ndim == 2:
        closes = np.full((*values.shape, len(FEATURES)), np.nan)
        closes[..., CLOSE] = values
        return closes, None
    if values.ndim != 3 or values.shape[2] != len(FEATURES):
        raise InputError(
            f"a forecast is paths (path, step, {len(FEATURES)}), got shape {values.shape}: pick one series"
        )
    return values, None


def _new_figure() -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _axes(figure: Figure, with_volume: bool) -> list[Axes]:
    heights = [3.2, 1] if with_volume else [1]
    axes: list[Axes] = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="#e4e4e4", linewidth=0.6)
        one.set_axisbelow(True)
        one.tick_params(labelsize=8)
    return axes


def _draw_prices(
    axes: Axes,
    bars: NDArray[np.float64],
    paths: NDArray[np.float64],
    actual: NDArray[np.float64] | None,
    intervals: Sequence[float],
) -> None:
    past, origin = np.arange(len(bars)) - len(bars) + 1, bars[-1, CLOSE]
    steps = np.arange(paths.shape[1] + 1)
    _draw_candles(axes, past, bars, (UP, DOWN))
    if len(paths) == 1 and np.isfinite(paths[0, :, :VOLUME]).all():
        _draw_candles(axes, steps[1:], paths[0], (FORECAST, FORECAST), label="forecast")
    else:
        closes = np.column_stack([np.full(len(paths), origin), paths[..., CLOSE]])
        for share in sorted(intervals, reverse=True):
            ends = np.quantile(closes, [(1 - share) / 2, (1 + share) / 2], axis=0, method="median_unbiased")
            axes.fill_between(steps, *ends, color=FORECAST, alpha=0.18, linewidth=0, label=f"{share:.0%} interval")
        axes.plot(steps, np.median(closes, axis=0), color=FORECAST, linewidth=1.4, label="median")
    if actual is not None:
        followed = np.r_[origin, actual[:, CLOSE]]
        axes.plot(steps[: len(followed)], followed, color=ACTUAL, linewidth=1.2, linestyle="--", label="actual close")
    axes.axvline(0.5, color="#999999", linewidth=0.8)
    axes.legend(loc="best", frameon=False, fontsize=8)
    axes.set_ylabel("price", fontsize=8)


def _draw_candles(
    axes: Axes, places: NDArray[Any], bars: NDArray[np.float64], colours: tuple[str, str], label: str | None = None
) -> None:
    """Wicks from low to high, bodies from open to close; the first colour where the close is not below the open."""
    from matplotlib.collections import LineCollection, PolyCollection

    opens, closes = bars[:, OPEN], bars[:, CLOSE]
    colour = np.where(closes >= opens, *colours)
    wicks = [[(x, bar[LOW]), (x, bar[HIGH])] for x, bar in zip(places, bars, strict=True)]
    axes.add_collection(LineCollection(wicks, colors=list(colour), linewidths=0.8))
    half = BODY / 2
    bodies = [
        [(x - half, low), (x + half, low), (x + half, high), (x - half, high)]
        for x, low, high in zip(places, opens, closes, strict=True)
    ]
    axes.add_collection(
        PolyCollection(bodies, facecolors=list(colour), edgecolors=list(colour), linewidths=0.8, label=label)
    )
    axes.autoscale_view()


def _draw_volume(
    axes: Axes, bars: NDArray[np.float64], paths: NDArray[np.float64], actual: NDArray[np.float64] | None
) -> None:
    past, steps = np.arange(len(bars)) - len(bars) + 1, np.arange(1, paths.shape[1] + 1)
    colour = np.where(bars[:, CLOSE] >= bars[:, OPEN], UP, DOWN)
    axes.bar(past, np.nan_to_num(bars[:, VOLUME]), width=BODY, color=list(colour), alpha=0.7)
    if np.isfinite(paths[..., VOLUME]).all():
        axes.bar(steps, np.median(paths[..., VOLUME], axis=0), width=BODY, color=FORECAST, alpha=0.5)
    if actual is not None:
        axes.plot(steps[: len(actual)], actual[:, VOLUME], color=ACTUAL, marker="_", linestyle="none", markersize=6)
    axes.axvline(0.5, color="#999999", linewidth=0.8)
    axes.set_ylabel("volume", fontsize=8)


def _label_dates(axes: Axes, past: pd.DatetimeIndex, future: pd.DatetimeIndex | None, steps: int) -> None:
    """Label some bars with their date, and with the time of day where bars are shorter than a day."""
    first = 1 - len(past)
    places = np.unique(np.linspace(first, steps, TICKS).round().astype(int))
    intraday = len(past) > 1 and past.to_series().diff().median() < pd.Timedelta(days=1)
    layout = "%m-%d %H:%M" if intraday else "%Y-%m-%d"
    labels = []
    for place in places:
        stamp = past[place - 1] if place <= 0 else None if future is None else future[place - 1]
        labels.append(f"+{place}" if stamp is None else stamp.strftime(layout))
    axes.set_xticks(places, labels)
    axes.set_xlim(first - 1, steps + 1)
