"""Charts of scores: skill with intervals, CRPS by step, PIT histograms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from assets.forecasting.filters import without_recalibrated
from assets.forecasting.metrics import ALL_STEPS, BASELINES
from assets.plots import figure, label, model_colour, png
from resources.derived_models import is_recalibrated, recalibrated

METRIC = "crps"
PIT_BINS = 10
# Lines whose legend fits into the chart.
MOST_LINES = 6


def skills(scoreboard: pd.DataFrame) -> pd.DataFrame:
    """The CRPS skill against the first baseline: columns model, horizon, skill, skill_low, skill_high."""
    rows = scoreboard[(scoreboard["metric"] == METRIC) & (scoreboard["baseline"] == BASELINES[0])]
    return rows[["model", "horizon", "skill", "skill_low", "skill_high"]]


def skill_chart(rows: pd.DataFrame) -> bytes:
    """The skill of each model against a baseline by horizon, with intervals, as PNG.

    Hollow: the skill over all steps of the model's recalibrated forecasts.

    Args:
        rows: of `skills`.
    """
    horizons = sorted(rows["horizon"].unique(), key=lambda step: (step == ALL_STEPS, step))
    whole = rows[rows["horizon"] == ALL_STEPS].sort_values("skill")
    models = without_recalibrated(whole)["model"].tolist()
    copies = whole.set_index("model")["skill"]
    with figure(6.4, 0.9 + 0.55 * max(1, len(models))) as drawn:
        axes = drawn.add_subplot()
        axes.axvline(0, color="#999999", linewidth=1)
        for row, model in enumerate(models):
            own = rows[rows["model"] == model].set_index("horizon")
            for place, horizon in enumerate(step for step in horizons if step in own.index):
                skill, low, high = own.loc[horizon, ["skill", "skill_low", "skill_high"]].astype(float) * 100
                low, high = (skill if np.isnan(edge) else edge for edge in (low, high))
                height = row + 0.6 * (place / max(1, len(horizons) - 1) - 0.5)
                colour, marker = model_colour(str(model)), "D" if horizon == ALL_STEPS else "o"
                axes.plot([low, high], [height, height], color=colour, linewidth=1.4, alpha=0.7)
                axes.plot(skill, height, marker, color=colour, markersize=5 if horizon == ALL_STEPS else 3)
                horizon_label = "all" if horizon == ALL_STEPS else f"step {horizon}"
                axes.annotate(horizon_label, (high, height), (3, -2), textcoords="offset points", fontsize=5.5)
            if (copy := copies.get(recalibrated(str(model)))) is not None:
                colour = model_colour(str(model))
                axes.plot(100 * copy, row + 0.3, "D", color=colour, markerfacecolor="white", markersize=5)
        axes.set_yticks(range(len(models)), [label(model) for model in models])
        axes.set_ylim(-0.6, len(models) - 0.3)
        axes.set_title(f"{METRIC.upper()} skill against: {label(BASELINES[0])}")
        hollow = "; hollow: recalibrated" if len(models) < len(whole) else ""
        axes.set_xlabel(f"skill, %, with intervals; above 0: better{hollow}")
        return png(drawn)


def crps_by_step(by_step: pd.DataFrame) -> pd.DataFrame:
    """The mean CRPS, without recalibrated models: columns model, step, value."""
    return without_recalibrated(by_step[by_step["metric"] == METRIC])[["model", "step", "value"]]


def step_chart(rows: pd.DataFrame) -> bytes:
    """The mean CRPS by step and model, as PNG.

    Args:
        rows: of `crps_by_step`.
    """
    outside = rows["model"].nunique() > MOST_LINES
    with figure(7.4 if outside else 5.2, 3.6 if outside else 3.2) as drawn:
        axes = drawn.add_subplot()
        for model, own in rows.groupby("model"):
            axes.plot(
                own["step"], own["value"], "o-", markersize=3, color=model_colour(str(model)), label=label(str(model))
            )
        axes.set(xlabel="step", ylabel="% of the close at the origin", title=f"{METRIC.upper()} by step")
        if outside:
            drawn.legend(loc="outside right upper", fontsize=7)
        else:
            axes.legend()
        return png(drawn)


def pit_densities(pits: pd.DataFrame) -> dict[str, np.ndarray]:
    """By model, the weighted density of its PITs in PIT_BINS equal bins.

    Args:
        pits: columns model, pit, weight.
    """
    return {str(model): _density(own) for model, own in pits.groupby("model")}


def pit_chart(densities: Mapping[str, np.ndarray]) -> bytes:
    """PIT histograms, one per model, as PNG. Flat: calibrated; hump-shaped: too wide; U-shaped: too narrow.

    The outline is that of the model's recalibrated forecasts.

    Args:
        densities: of `pit_densities`.
    """
    models = sorted(model for model in densities if not is_recalibrated(model))
    edges = np.linspace(0, 1, PIT_BINS + 1)
    columns = min(3 if len(models) <= MOST_LINES else 4, len(models))
    rows = -(-len(models) // columns)
    with figure(2.4 * columns, 1.9 * rows) as drawn:
        for place, model in enumerate(models):
            axes = drawn.add_subplot(rows, columns, place + 1)
            axes.bar(edges[:-1], densities[model], 1 / PIT_BINS, align="edge", color=model_colour(model), alpha=0.8)
            if (copy := recalibrated(model)) in densities:
                axes.stairs(densities[copy], edges, color="#111111", linewidth=1.1)
            axes.axhline(1, color="#111111", linewidth=0.8, linestyle=":")
            axes.set_title(label(model), fontsize=7.5)
        return png(drawn)


def _density(own: pd.DataFrame) -> np.ndarray:
    shares, _ = np.histogram(own["pit"], bins=PIT_BINS, range=(0, 1), weights=own["weight"])
    density: np.ndarray = shares / own["weight"].sum() * PIT_BINS
    return density
