"""Plots of the training windows and of the volatility model as PNG. The plots of a fit are in `diagnostics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.plots import COLOURS, figure, label, png

if TYPE_CHECKING:
    from assets.training.model_selection.scoring import SkillComparison

MOST_SYMBOLS = 40
SPLIT_COLOURS = {"train": COLOURS["kronos"], "validation": COLOURS["chronos2"], "test": COLOURS["benchmark"]}


def most_windows(counts: pd.DataFrame) -> pd.DataFrame:
    """The counts of the symbols with the most windows, at most 40, the most first.

    Args:
        counts: columns symbol, train, validation, test.
    """
    total = counts[list(SPLIT_COLOURS)].sum(axis=1).to_numpy()
    return counts.iloc[np.argsort(-total, kind="stable")[:MOST_SYMBOLS]]


def windows_plot(shown: pd.DataFrame, symbols: int) -> bytes:
    """Windows per symbol and split, as stacked bars.

    Args:
        shown: `most_windows` of all `symbols`.
    """
    splits = list(SPLIT_COLOURS)
    with figure(6.4, 1.1 + 0.22 * len(shown)) as drawn:
        axes = drawn.add_subplot()
        left = np.zeros(len(shown), dtype=np.int64)
        for split in splits:
            axes.barh(range(len(shown)), shown[split], left=left, color=SPLIT_COLOURS[split], label=split, height=0.7)
            left = left + shown[split].to_numpy()
        axes.set_yticks(range(len(shown)), shown["symbol"].tolist())
        axes.set_ylim(len(shown) - 0.4, -0.6)
        more = f", {len(shown)} of {symbols} symbols" if symbols > len(shown) else ""
        axes.set(title=f"Windows per symbol{more}", xlabel="windows")
        axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
        return png(drawn)


def skill_plot(steps: Sequence[SkillComparison]) -> bytes:
    """CRPS skill of the volatility model on the validation range by step, with intervals where there are any."""
    with figure(5.6, 3.0) as drawn:
        axes = drawn.add_subplot()
        numbers = range(1, len(steps) + 1)
        axes.axhline(0, color=COLOURS["random_walk_ewma"], label=label("random_walk_ewma"))
        axes.plot(numbers, [100 * one.skill for one in steps], color=COLOURS["volatility"], marker="o", markersize=3)
        known = [(n, one.low, one.high) for n, one in zip(numbers, steps, strict=True)]
        for number, low, high in known:
            if low is not None and high is not None:
                axes.plot([number, number], [100 * low, 100 * high], color=COLOURS["volatility"], linewidth=0.8)
        axes.set(title="Volatility model: CRPS skill on the validation range", xlabel="step", ylabel="skill, %")
        axes.legend(loc="upper right")
        return png(drawn)
