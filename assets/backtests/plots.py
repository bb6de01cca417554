"""Pictures of signals and of the provider, as PNG. The report's own are in its package."""

from __future__ import annotations

import numpy as np
import pandas as pd

from assets import plots as pictures
from resources.qlib import QlibProvider


def signals_picture(signals: pd.DataFrame) -> bytes:
    """How a model's expected returns spread, a row a model."""
    models = sorted(signals["model"].unique())
    with pictures.figure(6.4, 1.2 + 0.45 * len(models)) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="#999999", linewidth=1)
        values = [100 * signals.loc[signals["model"] == model, "value"].to_numpy() for model in models]
        boxes = axes.boxplot(values, orientation="horizontal", whis=(5, 95), showfliers=False, patch_artist=True)
        for box, model in zip(boxes["boxes"], models, strict=True):
            box.set(facecolor=pictures.COLOURS.get(model, "#56B4E9"), alpha=0.5)
        axes.set_yticks(range(1, len(models) + 1), [pictures.label(model) for model in models])
        axes.set(title="Expected return over the horizon: 5, 25, 50, 75, 95 % of signals", xlabel="%")
        return pictures.png(drawn)


def provider_picture(provider: QlibProvider, most: int = 40) -> bytes:
    """From when to when each symbol has bars, and how many; at most `most` symbols."""
    symbols = sorted(provider.ids)[:most]
    closes = provider.panel("close", symbols)
    with pictures.figure(6.4, 0.8 + 0.22 * len(symbols)) as drawn:
        axes = drawn.add_subplot()
        for place, symbol in enumerate(symbols):
            there = np.flatnonzero(np.isfinite(closes[:, place]))
            first, last = provider.sessions[there[[0, -1]]]
            axes.plot([first, last], [place, place], color="#0b5c8f", linewidth=5, solid_capstyle="butt")
            axes.annotate(f"{symbol}, {len(there):,}", (first, place), (-4, 0), textcoords="offset points",
                          ha="right", va="center", fontsize=8)  # fmt: skip
        axes.set_yticks([])
        axes.set_ylim(len(symbols) - 0.5, -0.5)
        axes.margins(x=0.18)
        axes.set(title="Bars by symbol")
        return pictures.png(drawn)
