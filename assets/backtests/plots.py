"""Plots of the signals and of the Qlib provider, as PNG. The plots of the report are in its package."""

from __future__ import annotations

import numpy as np
import pandas as pd

from assets import plots
from resources.qlib import QlibProvider


def signals_plot(signals: pd.DataFrame) -> bytes:
    """Distribution of the expected returns, one box per model."""
    models = sorted(signals["model"].unique())
    with plots.figure(6.4, 1.2 + 0.45 * len(models)) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="#999999", linewidth=1)
        values = [100 * signals.loc[signals["model"] == model, "value"].to_numpy() for model in models]
        boxes = axes.boxplot(values, orientation="horizontal", whis=(5, 95), showfliers=False, patch_artist=True)
        for box, model in zip(boxes["boxes"], models, strict=True):
            box.set(facecolor=plots.model_colour(model), alpha=0.5)
        axes.set_yticks(range(1, len(models) + 1), [plots.label(model) for model in models])
        axes.set(title="Expected return over the horizon: 5th, 25th, 50th, 75th and 95th percentile", xlabel="%")
        return plots.png(drawn)


def provider_plot(provider: QlibProvider, most: int = 40) -> bytes:
    """First and last bar and number of bars per symbol, for at most `most` symbols."""
    symbols = sorted(provider.ids)[:most]
    closes = provider.panel("close", symbols)
    with plots.figure(6.4, 0.8 + 0.22 * len(symbols)) as drawn:
        axes = drawn.add_subplot()
        for place, symbol in enumerate(symbols):
            present = np.flatnonzero(np.isfinite(closes[:, place]))
            first, last = provider.sessions[present[[0, -1]]]
            axes.plot([first, last], [place, place], color="#0b5c8f", linewidth=5, solid_capstyle="butt")
            axes.annotate(f"{symbol}, {len(present):,}", (first, place), (-4, 0), textcoords="offset points",
                          ha="right", va="center", fontsize=8)  # fmt: skip
        axes.set_yticks([])
        axes.set_ylim(len(symbols) - 0.5, -0.5)
        axes.margins(x=0.18)
        axes.set(title="Bars per symbol")
        return plots.png(drawn)
