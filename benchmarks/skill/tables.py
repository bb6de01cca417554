"""The evaluations as text: Markdown tables, the goals beside what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.skill.evaluation import STEPS, Evaluation
from benchmarks.skill.models import KRONOS, REFERENCE
from benchmarks.skill.scores import Skill, interval_text
from resources.derived_models import ANCHORED, is_recalibrated

# Coverage of a recalibrated 90 % band: over all, and in any year.
OVER_ALL, IN_A_YEAR = (0.885, 0.915), (0.86, 0.94)


@dataclass(frozen=True)
class Goal:
    """A figure that is aimed at: the skill of a model over some steps, and the lower end of its interval."""

    text: str
    steps: str
    skill: float
    low: float

    def row(self, found: Skill, model: str) -> list[str]:
        """The cells of the table."""
        met = "no"
        if found.skill >= self.skill:
            met = "yes" if found.low > self.low else "by quarters" if found.quarter_low > self.low else "no"
        aimed = f"≥ {100 * self.skill:+.1f} %, lower end > {100 * self.low:+.1f} %"
        quarters = interval_text(found.quarter_low, found.quarter_high).strip()
        return [f"{self.text}: `{model}`", found.text, quarters, aimed, met]


BEST = (
    Goal("best default model, all steps", "all steps", 0.016, 0.012),
    Goal("the same at step 1", "step 1", 0.019, 0.014),
)
ANCHORED_GOAL = Goal("anchored", "all steps", 0.012, 0.006)


def report(full: Evaluation, subsample: Evaluation | None) -> str:
    """All tables."""
    parts = [*_sections(full)]
    if subsample:
        parts += _sections(subsample)
    return "\n\n".join([*parts, "## Goals", goals(full, subsample)])


def goals(full: Evaluation, subsample: Evaluation | None) -> str:
    """What was aimed at beside what was measured."""
    best = full.best()
    rows = [goal.row(full.skills[best][goal.steps], best) for goal in BEST]
    for model in (f"chronos2{ANCHORED}", f"{KRONOS}{ANCHORED}"):
        for evaluation in (full, subsample):
            if evaluation and model in evaluation.scores:
                rows.append(ANCHORED_GOAL.row(evaluation.skills[model]["all steps"], model))
                break
    rows += [_coverage_goal(one) for one in (full, subsample) if one and any(map(is_recalibrated, one.scores))]
    note = (
        f"The best is that of {len(full.scores) - 1} forecasts on the scored origins. Intervals are 90 % intervals by "
        "blocks of dates: of a fifth of the time, as on the scoreboard, and of a quarter of a year. `by quarters`: met "
        "with the second alone."
    )
    return f"{_table(['', 'measured', 'blocks of a quarter', 'goal', 'met'], rows)}\n\n{note}"


def _sections(evaluation: Evaluation) -> Iterator[str]:
    yield f"## {evaluation.title}"
    yield f"CRPS skill against `{REFERENCE}` with its 90 % interval, and coverage of the bands."
    yield _models_table(evaluation)
    yield "Skill by year, all steps, in %:"
    yield _by_year(evaluation)
    yield "Skill by thirds of the symbols at each origin, all steps:"
    yield _by_group(evaluation)
    yield (
        f"Coverage of the 90 % band by year, in %; `!` marks a year outside {100 * IN_A_YEAR[0]:.0f}–"
        f"{100 * IN_A_YEAR[1]:.0f} %:"
    )
    yield _coverage_by_year(evaluation)


def _models_table(evaluation: Evaluation) -> str:
    bands = list(evaluation.coverage[REFERENCE])
    header = ["model", *STEPS, *(f"{band} covers" for band in bands), "recalibrated, all steps"]
    header += [f"{band} covers" for band in bands]
    rows = []
    for model in evaluation.models:
        skills = ["reference"] * len(STEPS)
        if model != REFERENCE:
            skills = [one.text for one in evaluation.skills[model].values()]
        copy = evaluation.copy_of(model)
        repeated = [evaluation.skills[copy]["all steps"].text, *_shares(evaluation.coverage[copy])] if copy else []
        rows.append([f"`{model}`", *skills, *_shares(evaluation.coverage[model]), *(repeated or ["–"] * 4)])
    return _table(header, rows)


def _by_year(evaluation: Evaluation) -> str:
    rows = [
        [f"`{model}`", *(f"{100 * one.skill:+.2f}" for one in evaluation.by_year[model].values())]
        for model in evaluation.scores
        if model != REFERENCE
    ]
    return _table(["model", *map(str, evaluation.years)], rows)


def _by_group(evaluation: Evaluation) -> str:
    rows = [
        [f"`{model}`", *(one.text for one in evaluation.by_group[model].values())]
        for model in evaluation.models
        if model != REFERENCE
    ]
    return _table(["model", *evaluation.groups], rows)


def _coverage_by_year(evaluation: Evaluation) -> str:
    rows = []
    for model, years in evaluation.coverage_by_year.items():
        cells = [f"{100 * value:.1f}{'' if _within(value, IN_A_YEAR) else ' !'}" for value in years.values()]
        rows.append([f"`{model}`", f"{100 * evaluation.coverage[model]['90%']:.1f}", *cells])
    return _table(["model", "all", *map(str, evaluation.years)], rows)


def _coverage_goal(evaluation: Evaluation) -> list[str]:
    over_all = {model: own["90%"] for model, own in evaluation.coverage.items() if is_recalibrated(model)}
    years = [value for model in over_all for value in evaluation.coverage_by_year[model].values()]
    outside = sum(not _within(value, IN_A_YEAR) for value in years)
    met = not outside and all(_within(value, OVER_ALL) for value in over_all.values())
    measured = (
        f"{100 * min(over_all.values()):.1f}–{100 * max(over_all.values()):.1f} % over all; by year "
        f"{100 * min(years):.1f}–{100 * max(years):.1f} %, {outside} of {len(years)} outside"
    )
    aimed = f"88.5–91.5 % over all, no year outside {100 * IN_A_YEAR[0]:.0f}–{100 * IN_A_YEAR[1]:.0f} %"
    what = f"recalibrated 90 % band, every model, every year ({evaluation.name})"
    return [what, measured, "", aimed, "yes" if met else "no"]


def _shares(coverage: dict[str, float]) -> list[str]:
    return [f"{100 * value:.1f} %" for value in coverage.values()]


def _within(value: float, ends: tuple[float, float]) -> bool:
    return bool(np.isnan(value)) or ends[0] <= value <= ends[1]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
