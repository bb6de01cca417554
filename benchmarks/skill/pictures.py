"""Pictures of the benchmark: skill by year, and calibration before and after recalibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from assets.plots import figure, label, model_colour, png
from benchmarks.skill.evaluation import Evaluation
from benchmarks.skill.forecasts import LEVELS
from benchmarks.skill.models import REFERENCE
from resources.derived_models import ANCHORED, COMBINATIONS


def write_pictures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the pictures of one evaluation; returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"skill-by-year": skill_by_year(evaluation), "calibration": calibration(evaluation)}
    files = [folder / f"{name}-{evaluation.name}.png" for name in made]
    for file, content in zip(files, made.values(), strict=True):
        file.write_bytes(content)
    return files


def skill_by_year(evaluation: Evaluation) -> bytes:
    """A line per model, and its skill over all years with the interval on the right."""
    models = [model for model in evaluation.models if model != REFERENCE]
    years = evaluation.years
    with figure(9, 4.6) as drawn:
        axes, beside = drawn.subplots(1, 2, sharey=True, width_ratios=[3, 1])
        for place, model in enumerate(models):
            values = [100 * one.skill for one in evaluation.by_year[model].values()]
            style = {"color": model_colour(model), "linestyle": _line(model), "label": label(model)}
            axes.plot(years, values, marker="o", markersize=3, **style)
            whole = evaluation.skills[model]["all steps"]
            if not np.isnan(whole.low):
                beside.plot([place, place], [100 * whole.low, 100 * whole.high], color=model_colour(model), linewidth=3)
            beside.plot(place, 100 * whole.skill, "o", color=model_colour(model), markersize=5)
        for one in (axes, beside):
            one.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks(years)
        axes.set_title("CRPS skill by year")
        axes.set_ylabel(f"% against {label(REFERENCE)}")
        beside.set_title("All years, 90 % interval")
        beside.set_xticks([])
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return png(drawn)


def calibration(evaluation: Evaluation) -> bytes:
    """Observed minus nominal, as forecast and recalibrated: of central bands above, of quantiles below.

    No model forecasts a drift: where the sample rose, actuals lie above the median too often. That does not concern
    bands.
    """
    levels = np.asarray(LEVELS)
    middle = len(levels) // 2
    with figure(9, 7.6) as drawn:
        axes = drawn.subplots(2, 2, sharey="row")
        for model in evaluation.models:
            for column, name in enumerate((model, evaluation.copy_of(model))):
                if not name:
                    continue
                below = evaluation.scores[name].below
                nominal = (levels[::-1] - levels)[:middle]
                observed = (below[::-1] - below)[:middle]
                style = {"color": model_colour(model), "linestyle": _line(model), "label": label(model)}
                axes[0, column].plot(100 * nominal, 100 * (observed - nominal), **style)
                axes[1, column].plot(100 * levels, 100 * (below - levels), **style)
        for column, title in enumerate(("As forecast", "Recalibrated")):
            axes[0, column].set_title(title)
            axes[0, column].set_xlabel("central band, %")
            axes[1, column].set_xlabel("quantile level, %")
            for row in (0, 1):
                axes[row, column].axhline(0, color="black", linewidth=0.8)
        axes[0, 0].set_ylabel("coverage minus nominal, points")
        axes[1, 0].set_ylabel("actuals at or below the quantile,\nminus level, points")
        drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return png(drawn)


def _line(model: str) -> str:
    """Derived forecasts may lie on the line of another model, and are drawn broken."""
    return ":" if model in COMBINATIONS else "--" if model.endswith(ANCHORED) else "-"
