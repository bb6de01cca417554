"""Plots of the report: forecast fans, skill, equity and drawdown, as PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets import plots
from assets.backtests.measures import drawdown, equity
from assets.backtests.report.contents import FanCase
from assets.forecasting.fan import draw_fan, mark_origin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from assets.forecasting.plots import Fan

WIDTH = 10.0


def fan_row(case: FanCase) -> bytes:
    """Forecast fans of one symbol and origin, one panel per model, on a shared scale."""
    with plots.figure(WIDTH, 2.5) as drawn:
        panels = drawn.subplots(1, len(case.fans), sharey=True, squeeze=False)[0]
        for axes, fan in zip(panels, case.fans, strict=True):
            _fan(axes, fan)
        panels[0].set_ylabel("close (adjusted as of origin)")
        return plots.png(drawn)


def skill_chart(skill: pd.DataFrame) -> bytes:
    """CRPS skill of each model with its interval. Columns model, skill, skill_low, skill_high: fractions."""
    with plots.figure(4.8, max(2.4, 0.9 + 0.5 * len(skill))) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="#999999", linewidth=1)
        for place, (model, value, low, high) in enumerate(
            zip(skill["model"], skill["skill"], skill["skill_low"], skill["skill_high"], strict=True)
        ):
            if np.isfinite([low, high]).all():
                axes.plot([100 * low, 100 * high], [place, place], color=plots.model_colour(model), linewidth=2.2)
            axes.plot(100 * value, place, "o", color=plots.model_colour(model), markersize=6)
        axes.set_yticks(range(len(skill)), [plots.label(model) for model in skill["model"]])
        axes.set_ylim(len(skill) - 0.5, -0.5)
        axes.set(title="CRPS skill", xlabel="CRPS reduction, %")
        axes.grid(axis="y", visible=False)
        return plots.png(drawn)


def equity_chart(days: pd.DataFrame) -> bytes:
    """Equity, gross and net, and drawdown of each model and of the benchmark."""
    with plots.figure(WIDTH, 5.4) as drawn:
        above, below = drawn.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        models = sorted(days["model"].unique())
        for model in models:
            own = days[days["model"] == model]
            stamps = _with_day_before(own["session"])
            line = {"color": plots.model_colour(model), "linewidth": 1.5}
            above.plot(stamps, equity(own["net"].to_numpy()), label=f"{plots.label(model)}, net", **line)
            above.plot(stamps, equity(own["gross"].to_numpy()), **{**line, "linewidth": 0.9, "linestyle": (0, (2, 2))})
            below.plot(stamps, 100 * drawdown(own["net"].to_numpy()), **{**line, "linewidth": 1.1})
        first = days[days["model"] == models[0]]
        bench, stamps = first["benchmark"].to_numpy(), _with_day_before(first["session"])
        held = {"color": plots.COLOURS["benchmark"], "linewidth": 2.0, "zorder": 1}
        above.plot(stamps, equity(bench), label="Benchmark", **held)
        below.plot(stamps, 100 * drawdown(bench), **held)
        above.plot([], [], color="#555555", linewidth=0.9, linestyle=(0, (2, 2)), label="gross (before costs)")
        above.set(ylabel="growth of 1 unit")
        below.set(ylabel="drawdown, %")
        above.legend(loc="upper left", ncols=3)
        below.set_xlim(stamps[0], stamps[-1])
        return plots.png(drawn)


def _with_day_before(sessions: pd.Series) -> np.ndarray:
    """The sessions, after the day before the first one, at which every curve starts at 1."""
    stamps = sessions.to_numpy().astype("datetime64[D]")
    return np.concatenate([[stamps[0] - 1], stamps])


def _fan(axes: Axes, fan: Fan) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DateFormatter

    stamps = fan.stamps
    # Black is the colour of the actual closes.
    colour = plots.model_colour("random_walk" if fan.model == "random_walk_ewma" else fan.model)
    draw_fan(axes, stamps, fan.from_origin, colour)
    axes.plot(fan.past_stamps, fan.past, color=plots.COLOURS["actual"], linewidth=1.1)
    axes.plot(stamps, np.r_[fan.past[-1], fan.actual], color=plots.COLOURS["actual"], linewidth=1.1, linestyle="--")
    mark_origin(axes, fan.origin)
    axes.set_title(plots.label(fan.model).replace(" volatility)", ")"))
    locator = AutoDateLocator(minticks=2, maxticks=4)
    axes.xaxis.set_major_locator(locator)
    days = (stamps[-1] - fan.past_stamps[0]) / np.timedelta64(1, "D")
    # The year is in the title of the row.
    short = days <= 5
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator) if short else DateFormatter("%d %b"))
