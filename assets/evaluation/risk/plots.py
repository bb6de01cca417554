"""Charts of risk: exceptions against expected ones, the newest measures by symbol, reliability of probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from assets.evaluation.risk.backtest import reliability_bins
from assets.evaluation.risk.store import ES, VAR
from assets.forecasting.intervals import percent
from assets.plots import STYLE, figure, label, model_colour, png
from resources.derived_models import is_recalibrated

MOST_SYMBOLS = 40


def exceptions(backtest: pd.DataFrame, level: float) -> pd.DataFrame:
    """The exceptions of the value at risk of one level: columns model, step, n, exceptions, rate_low, rate_high."""
    rows = backtest[(backtest["measure"] == VAR) & (backtest["level"] == level)]
    return rows[["model", "step", "n", "exceptions", "rate_low", "rate_high"]]


def exceptions_chart(rows: pd.DataFrame, level: float) -> bytes:
    """The share of exceptions of the value at risk by model and step, with intervals, as PNG.

    Args:
        rows: of `exceptions`.
    """
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
        # Over the names of the models: beside them there is not enough width.
        title = f"Losses beyond the value at risk, expected: {percent(level)}"
        drawn.suptitle(title, x=0.01, ha="left", size=STYLE["axes.titlesize"], weight=STYLE["axes.titleweight"])
        axes.set_xlabel("share of outcomes, %, with intervals by blocks of dates")
        return png(drawn)


def first_symbols(newest: pd.DataFrame) -> pd.DataFrame:
    """The measures of the first MOST_SYMBOLS symbols: columns symbol, step, measure, value."""
    first = sorted(newest["symbol"].unique())[:MOST_SYMBOLS]
    return newest.loc[newest["symbol"].isin(first), ["symbol", "step", "measure", "value"]]


def newest_chart(newest: pd.DataFrame, model: str, origin: np.datetime64, level: float, all_symbols: int = 0) -> bytes:
    """Value at risk and expected shortfall by symbol and step at one origin, as PNG.

    Args:
        newest: of `first_symbols`, of one model, origin and level.
        all_symbols: their number; 0: not known, in homes of earlier versions.
    """
    steps, symbols = sorted(newest["step"].unique()), sorted(newest["symbol"].unique())
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
        axes.set_ylim(len(symbols) - 0.4, -0.6)
        if all_symbols > len(symbols):
            axes.set_ylabel(f"first {len(symbols)} of {all_symbols} symbols")
        axes.set_title(f"{label(model)} from {origin.astype('datetime64[D]')}, level {percent(level)}")
        axes.set_xlabel("value at risk (bar) and expected shortfall (mark), % of log return")
        drawn.legend(loc="outside right upper")
        return png(drawn)


def reliability(events: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """By model and measure, the share of events (observed) by bin of their probability (forecast).

    Args:
        events: columns model, measure, value, event.
    """
    return {
        (str(model), str(measure)): reliability_bins(own["value"].to_numpy(), own["event"].to_numpy())
        for (model, measure), own in events.groupby(["model", "measure"])
    }


def reliability_chart(bins_of: Mapping[tuple[str, str], pd.DataFrame]) -> bytes:
    """The share of events by forecast probability, one line per model and measure, as PNG. Hollow: recalibrated.

    Args:
        bins_of: of `reliability`.
    """
    with figure(7.0, 4.0) as drawn:
        axes = drawn.add_subplot()
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":", label="calibrated")
        for (model, measure), bins in bins_of.items():
            style = "o-" if measure == "drawdown" else "s--"
            name = f"{label(model)}, {measure}"
            colour = model_colour(model)
            filling = "white" if is_recalibrated(model) else colour
            axes.plot(bins["forecast"], bins["observed"], style, markersize=4, color=colour, mfc=filling, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1), title="Probabilities from sample paths")
        axes.set(xlabel="forecast probability", ylabel="share of events")
        drawn.legend(loc="outside right upper", fontsize=7)
        return png(drawn)
