"""Plots of the report: forecast fans, skill, equity and drawdown, as PNG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets import plots
from assets.backtests.measures import drawdown, equity
from assets.backtests.report.contents import FanCase
from assets.forecasting.fan import draw_fan, mark_origin
from resources.derived_models import is_recalibrated, raw_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from assets.forecasting.plots import Fan

WIDTH = 10.0
OTHERS = "#c8c8c8"
# The models that have a colour where there are too many lines for all of them.
HIGHLIGHTED = (
    "random_walk_ewma", "volatility", "kronos", "kronos_anchored", "chronos2", "chronos2_anchored", "combination_crps",
)  # fmt: skip


def fan_row(case: FanCase) -> bytes:
    """Forecast fans of one symbol and origin, one panel per model, on a shared scale."""
    with plots.figure(WIDTH, 2.5) as drawn:
        panels = drawn.subplots(1, len(case.fans), sharey=True, squeeze=False)[0]
        for axes, fan in zip(panels, case.fans, strict=True):
            _fan(axes, fan)
        panels[0].set_ylabel("close (adjusted as of origin)")
        return plots.png(drawn)


def skill_chart(skill: pd.DataFrame) -> bytes:
    """CRPS skill of each model with its interval, and below it, hollow, that of its recalibrated forecasts.

    Args:
        skill: columns model, skill, skill_low, skill_high (fractions), in the order of the rows.
    """
    models = list(dict.fromkeys(raw_model(model) for model in skill["model"]))
    copies = skill["model"].map(is_recalibrated).any()
    with plots.figure(4.8, max(2.4, 0.9 + (0.42 if copies else 0.5) * len(models))) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="#999999", linewidth=1)
        for model, value, low, high in skill[["model", "skill", "skill_low", "skill_high"]].itertuples(index=False):
            copy, colour = is_recalibrated(model), plots.model_colour(model)
            height = models.index(raw_model(model)) + (0.27 if copy else 0)
            if np.isfinite([low, high]).all():
                axes.plot([100 * low, 100 * high], [height, height], color=colour, linewidth=1.2 if copy else 2.2)
            face = "white" if copy else colour
            axes.plot(100 * value, height, "o", color=colour, markerfacecolor=face, markersize=4.5 if copy else 6)
        axes.set_yticks(range(len(models)), [plots.label(model) for model in models])
        axes.set_ylim(len(models) - 0.4, -0.5)
        axes.set(title="CRPS skill", xlabel="CRPS reduction, %")
        axes.grid(axis="y", visible=False)
        return plots.png(drawn)


def calibration_chart(calibrated: Mapping[str, pd.DataFrame]) -> bytes:
    """How far the share of closes at or below each quantile is from its level: as forecast, and recalibrated.

    Args:
        calibrated: by model, a frame with the columns level and share. Models of HIGHLIGHTED, or all of few, have a
            colour; the others are grey.
    """
    copies = {model: own for model, own in calibrated.items() if is_recalibrated(model)}
    panels = {"As forecast": {model: own for model, own in calibrated.items() if model not in copies}}
    panels |= {"Recalibrated": copies} if copies else {}
    few = len(panels["As forecast"]) <= len(HIGHLIGHTED)
    with plots.figure(4.8, 3.4 if len(panels) == 1 else 5.6) as drawn:
        rows = drawn.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (title, models) in zip(rows, panels.items(), strict=True):
            axes.axhline(0, color="#999999", linewidth=1, linestyle=":")
            for model, own in models.items():
                shown = few or raw_model(model) in HIGHLIGHTED
                style = (
                    {"color": plots.model_colour(model), "zorder": 3} if shown else {"color": "#c8c8c8", "zorder": 2}
                )
                name = plots.label(raw_model(model)) if shown else None
                axes.plot(own["level"], 100 * (own["share"] - own["level"]), label=name, **style)
            axes.set(title=f"{title}: share of closes below − level", ylabel="percentage points", xlim=(0, 1))
        rows[-1].set_xlabel("quantile level")
        if not few:
            rows[0].plot([], [], color=OTHERS, label="other models")
        drawn.legend(*rows[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7.5)
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
