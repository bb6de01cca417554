"""The report's pictures: fans, skill, equity and drawdown, as PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets import plots as pictures
from assets.backtests.measures import drawdown, equity
from assets.backtests.report.contents import FanCase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from assets.forecasting.plots import Fan

BANDS = ((0.05, 0.95), (0.1, 0.9), (0.25, 0.75))
OTHERS = ("#56B4E9", "#E69F00", "#F0E442", "#8c564b")
WIDTH = 10.0


def colour(model: str) -> str:
    return pictures.COLOURS.get(model, OTHERS[sum(model.encode()) % len(OTHERS)])


def fan_row(case: FanCase) -> bytes:
    """One symbol and origin, a model a panel, on one scale."""
    with pictures.figure(WIDTH, 2.5) as drawn:
        panels = drawn.subplots(1, len(case.fans), sharey=True, squeeze=False)[0]
        for axes, fan in zip(panels, case.fans, strict=True):
            _fan(axes, fan)
        panels[0].set_ylabel("close, as quoted at the origin")
        return pictures.png(drawn)


def skill_chart(skill: pd.DataFrame) -> bytes:
    """Skill of each model with its interval. Columns model, skill, skill_low, skill_high: fractions."""
    with pictures.figure(4.8, max(2.4, 0.9 + 0.5 * len(skill))) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="#999999", linewidth=1)
        for place, (model, value, low, high) in enumerate(
            zip(skill["model"], skill["skill"], skill["skill_low"], skill["skill_high"], strict=True)
        ):
            if np.isfinite([low, high]).all():
                axes.plot([100 * low, 100 * high], [place, place], color=colour(model), linewidth=2.2)
            axes.plot(100 * value, place, "o", color=colour(model), markersize=6)
        axes.set_yticks(range(len(skill)), [pictures.label(model) for model in skill["model"]])
        axes.set_ylim(len(skill) - 0.5, -0.5)
        axes.set(title="Skill", xlabel="CRPS smaller than the yardstick's by, %")
        axes.grid(axis="y", visible=False)
        return pictures.png(drawn)


def equity_chart(days: pd.DataFrame) -> bytes:
    """Growth of 1, gross and net, and the way down from the highest point, with the benchmark."""
    with pictures.figure(WIDTH, 5.4) as drawn:
        above, below = drawn.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        models = sorted(days["model"].unique())
        for model in models:
            own = days[days["model"] == model]
            stamps = _with_start(own["session"])
            line = {"color": colour(model), "linewidth": 1.5}
            above.plot(stamps, equity(own["net"].to_numpy()), label=f"{pictures.label(model)}, net", **line)
            above.plot(stamps, equity(own["gross"].to_numpy()), **{**line, "linewidth": 0.9, "linestyle": (0, (2, 2))})
            below.plot(stamps, 100 * drawdown(own["net"].to_numpy()), **{**line, "linewidth": 1.1})
        first = days[days["model"] == models[0]]
        bench, stamps = first["benchmark"].to_numpy(), _with_start(first["session"])
        held = {"color": pictures.COLOURS["benchmark"], "linewidth": 2.0, "zorder": 1}
        above.plot(stamps, equity(bench), label="Benchmark", **held)
        below.plot(stamps, 100 * drawdown(bench), **held)
        above.plot([], [], color="#555555", linewidth=0.9, linestyle=(0, (2, 2)), label="gross")
        above.set(ylabel="growth of 1")
        below.set(ylabel="drawdown, %")
        above.legend(loc="upper left", ncols=3)
        below.set_xlim(stamps[0], stamps[-1])
        return pictures.png(drawn)


def _with_start(sessions: pd.Series) -> np.ndarray:
    """The sessions' stamps after the day before the first, where every curve starts at 1."""
    stamps = sessions.to_numpy().astype("datetime64[D]")
    return np.r_[stamps[0] - 1, stamps]


def _fan(axes: Axes, fan: Fan) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DateFormatter, date2num

    stamps = np.r_[fan.origin, fan.targets]
    quantiles = np.vstack([np.full(len(fan.levels), fan.past[-1]), fan.quantiles])
    # The EWMA walk's black is the truth's.
    shade = colour("random_walk" if fan.model == "random_walk_ewma" else fan.model)
    at = {round(float(level), 4): column for column, level in enumerate(fan.levels)}
    for low, high in BANDS:
        if low in at and high in at:
            band = quantiles[:, at[low]], quantiles[:, at[high]]
            axes.fill_between(stamps, *band, color=shade, alpha=0.18, linewidth=0)
    if 0.5 in at:
        axes.plot(stamps, quantiles[:, at[0.5]], color=shade, linewidth=1.6)
    axes.plot(fan.past_stamps, fan.past, color=pictures.COLOURS["truth"], linewidth=1.1)
    axes.plot(stamps, np.r_[fan.past[-1], fan.truth], color=pictures.COLOURS["truth"], linewidth=1.1, linestyle="--")
    axes.axvline(date2num(fan.origin), color="#999999", linewidth=0.8)
    axes.set_title(pictures.label(fan.model).replace(" volatility)", ")"))
    locator = AutoDateLocator(minticks=2, maxticks=4)
    axes.xaxis.set_major_locator(locator)
    days = (stamps[-1] - fan.past_stamps[0]) / np.timedelta64(1, "D")
    # The row's title has the year.
    axes.xaxis.set_major_formatter(DateFormatter("%d %b") if days > 5 else ConciseDateFormatter(locator))
