"""Charts of risk: exceptions against expected ones, the newest measures by symbol, reliability of probabilities."""

from __future__ import annotations

import numpy as np
import pandas as pd

from assets.evaluation.risk.backtest import reliability_bins
from assets.evaluation.risk.store import ES, VAR
from assets.forecasting.intervals import percent
from assets.plots import figure, label, model_colour, png

MOST_SYMBOLS = 40


def exceptions_chart(backtest: pd.DataFrame, level: float) -> bytes:
    """The share of exceptions of the value at risk by model and step, with intervals, as PNG."""
    rows = backtest[(backtest["measure"] == VAR) & (backtest["level"] == level)]
    models = sorted(rows["model"].unique(), reverse=True)
    with figure(6.4, 0.9 + 0.42 * max(1, len(models))) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(level * 100, color="#999999", linewidth=1)
        for row, model in enumerate(models):
            own = rows[rows["model"] == model].sort_values("step")
            for place, one in enumerate(own.itertuples()):
                height = row + 0.5 * (place / max(1, len(own) - 1) - 0.5)
                share = 100 * float(one.exceptions) / float(one.n)
                low, high = (share if np.isnan(end) else 100 * end for end in (one.rate_low, one.rate_high))
                axes.plot([low, high], [height, height], color=model_colour(model), linewidth=1.4, alpha=0.7)
                axes.plot(share, height, "o", color=model_colour(model), markersize=3)
                axes.annotate(f"step {one.step}", (high, height), (3, -2), textcoords="offset points", fontsize=5.5)
        axes.set_yticks(range(len(models)), [label(model) for model in models])
        axes.set_ylim(-0.6, len(models) - 0.4)
        axes.set_title(f"Losses beyond the value at risk, expected: {percent(level)}")
        axes.set_xlabel("share of outcomes, %, with intervals by blocks of dates")
        return png(drawn)


def newest_chart(newest: pd.DataFrame, model: str) -> bytes:
    """Value at risk and expected shortfall by symbol and step at one origin, as PNG.

    Args:
        newest: columns symbol, step, measure, level, value, origin, of one model, origin and level.
    """
    steps, symbols = sorted(newest["step"].unique()), sorted(newest["symbol"].unique())[:MOST_SYMBOLS]
    with figure(6.4, 1.0 + 0.2 * len(symbols) * max(1, len(steps) / 2)) as drawn:
        axes = drawn.add_subplot()
        wide = newest.pivot_table(index="symbol", columns=["measure", "step"], values="value").reindex(symbols) * 100
        for place, step in enumerate(steps):
            height = np.arange(len(symbols)) + 0.8 * ((place + 0.5) / len(steps) - 0.5)
            thickness, strength = 0.7 / len(steps), 1 - 0.7 * place / len(steps)
            axes.barh(
                height, wide[VAR, step], thickness, color=model_colour(model), alpha=strength, label=f"step {step}"
            )
            if ES in wide.columns.get_level_values(0):
                axes.plot(wide[ES, step], height, "|", color="#111111", markersize=5)
        axes.set_yticks(range(len(symbols)), symbols)
        axes.invert_yaxis()
        title = f"{label(model)} from {newest['origin'].iloc[0]:%Y-%m-%d}, level {percent(newest['level'].iloc[0])}"
        axes.set_title(title)
        axes.set_xlabel("value at risk (bar) and expected shortfall (mark), % of log return")
        axes.legend(loc="lower right")
        return png(drawn)


def reliability_chart(events: pd.DataFrame) -> bytes:
    """The share of events by forecast probability, one line per model and measure, as PNG.

    Args:
        events: columns model, measure, value, event.
    """
    with figure(4.6, 4.2) as drawn:
        axes = drawn.add_subplot()
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":", label="calibrated")
        for (model, measure), own in events.groupby(["model", "measure"]):
            bins = reliability_bins(own["value"].to_numpy(), own["event"].to_numpy())
            style = "o-" if measure == "drawdown" else "s--"
            name = f"{label(str(model))}, {measure}"
            axes.plot(
                bins["forecast"], bins["observed"], style, markersize=3, color=model_colour(str(model)), label=name
            )
        axes.set(xlim=(0, 1), ylim=(0, 1), title="Probabilities from sample paths")
        axes.set(xlabel="forecast probability", ylabel="share of events")
        axes.legend(loc="upper left", fontsize=6)
        return png(drawn)
