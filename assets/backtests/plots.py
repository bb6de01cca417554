"""Plots of the signals and of the Qlib provider, as PNG. The plots of the report are in its package."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from assets import plots
from resources.qlib import QlibProvider

MOST_SYMBOLS = 40


def expected_returns(signals: pd.DataFrame) -> dict[str, np.ndarray]:
    """By model, the five numbers of its expected returns in %: the ends of the whiskers, quartiles and median.

    Whiskers end at the outermost returns between the 5th and the 95th percentile.
    """
    return {str(model): _five_numbers(100 * own.to_numpy()) for model, own in signals.groupby("model")["value"]}


def signals_plot(returns: Mapping[str, np.ndarray]) -> bytes:
    """Distribution of the expected returns, one box per model.

    Args:
        returns: of `expected_returns`.
    """
    models = list(returns)
    with plots.figure(6.4, 1.2 + 0.45 * len(models)) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="#999999", linewidth=1)
        # Quartiles and range of five numbers are these numbers.
        boxes = axes.boxplot(
            list(returns.values()), orientation="horizontal", whis=(0, 100), showfliers=False, patch_artist=True
        )
        for box, model in zip(boxes["boxes"], models, strict=True):
            box.set(facecolor=plots.model_colour(model), alpha=0.5)
        axes.set_yticks(range(1, len(models) + 1), [plots.label(model) for model in models])
        axes.set(title="Expected return over the horizon", xlabel="%; 5th, 25th, 50th, 75th and 95th percentile")
        return plots.png(drawn)


def bar_ranges(provider: QlibProvider) -> pd.DataFrame:
    """First and last session with a bar and the number of bars, of the first MOST_SYMBOLS symbols."""
    symbols = sorted(provider.ids)[:MOST_SYMBOLS]
    closes = provider.panel("close", symbols)
    present = [np.flatnonzero(np.isfinite(closes[:, place])) for place in range(len(symbols))]
    ends = provider.sessions[np.array([own[[0, -1]] for own in present], dtype=np.int64).reshape(-1, 2)]
    return pd.DataFrame({"symbol": symbols, "first": ends[:, 0], "last": ends[:, 1], "bars": list(map(len, present))})


def provider_plot(ranges: pd.DataFrame, symbols: int = 0) -> bytes:
    """First and last bar and number of bars per symbol.

    Args:
        ranges: of `bar_ranges`; a symbol without a first or last bar is left out.
        symbols: the number of all symbols; 0: not known, in homes of earlier versions.
    """
    with plots.figure(6.4, 0.8 + 0.22 * max(2, len(ranges))) as drawn:
        axes = drawn.add_subplot()
        for place, (symbol, first, last, bars) in enumerate(ranges.itertuples(index=False)):
            if pd.isna(first) or pd.isna(last):
                continue
            axes.plot([first, last], [place, place], color="#0b5c8f", linewidth=5, solid_capstyle="butt")
            axes.annotate(f"{symbol}, {bars:,}", (first, place), (-4, 0), textcoords="offset points",
                          ha="right", va="center", fontsize=8)  # fmt: skip
        axes.set_yticks([])
        # Names are longer than the margin.
        axes.spines["left"].set_visible(False)
        axes.set_ylim(len(ranges) - 0.5, -0.5)
        axes.margins(x=0.18)
        plots.format_dates(axes, 8, least=3)
        more = f", first {len(ranges)} of {symbols} symbols" if symbols > len(ranges) else ""
        axes.set(title=f"Bars per symbol{more}")
        return plots.png(drawn)


def _five_numbers(values: np.ndarray) -> np.ndarray:
    low, first, median, third, high = np.percentile(values, [5, 25, 50, 75, 95])
    least, most = values[values >= low].min(initial=first), values[values <= high].max(initial=third)
    return np.array([least, first, median, third, most])
