"""The scoreboard as text, the most important sentence first. The report begins with it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from assets.forecasting.intervals import nominal_coverage, percent
from assets.forecasting.metrics import ALL_STEPS, BASELINES
from assets.plots import label

# The stronger baseline: volatility can be forecast.
REFERENCE_MODEL = "random_walk_ewma"


def verdict_text(scoreboard: pd.DataFrame, confidence: float = 0.9) -> list[str]:
    """Sentences about a scoreboard: which models beat the random walk on CRPS, by how much; calibration; direction.

    Args:
        scoreboard: as `read_scoreboard` returns it.
        confidence: `evaluation.confidence`, the level of its intervals.
    """
    if scoreboard.empty:
        return ["No forecast has been scored out of sample yet: there is no result for any model."]
    crps = _rows(scoreboard, "crps", REFERENCE_MODEL)
    models = crps[~crps["model"].isin(BASELINES)]
    return [
        _headline(models),
        *(_against_reference(row) for row in models.sort_values("skill", ascending=False).to_dict("records")),
        *_calibration(scoreboard, models),
        *_direction(scoreboard),
        _caveat(scoreboard, crps, confidence),
    ]


def _headline(models: pd.DataFrame) -> str:
    if models.empty:
        return f"No model other than the random walks has been scored against {_name(REFERENCE_MODEL)}."
    origins = f"{models['n'].min():,} origins"
    if (models["verdict"] == "too few origins").all():
        return f"Too few origins ({models['n'].max():,}) to tell whether any model beats {_name(REFERENCE_MODEL)}."
    winners = [label(model) for model in models.loc[models["verdict"] == "better", "model"]]
    if winners:
        verb = "beats" if len(winners) == 1 else "beat"
        return f"{_listed(winners)} {verb} {_name(REFERENCE_MODEL)} on CRPS over all steps ({origins})."
    return f"No model beats {_name(REFERENCE_MODEL)} on CRPS over all steps ({origins}): no edge was measured."


def _against_reference(row: Mapping[Hashable, Any]) -> str:
    name, change = label(row["model"]), _change(row["skill"])
    if pd.isna(row["skill_low"]):
        return f"{name}: CRPS {change}; {row['n']} origins are too few for an interval."
    return (
        f"{name}: CRPS {change} "
        f"(interval of the skill {row['skill_low']:+.1%} … {row['skill_high']:+.1%}): {row['verdict']}."
    )


def _calibration(scoreboard: pd.DataFrame, models: pd.DataFrame) -> list[str]:
    scored = {nominal: str(one) for one in scoreboard["metric"].unique() if (nominal := nominal_coverage(one))}
    if not scored:
        return []
    widest = max(scored)
    covered = _rows(scoreboard, scored[widest], BASELINES[0])
    covered = covered[covered["model"].isin([*models["model"], REFERENCE_MODEL])]
    if not covered["model"].isin(models["model"]).any():
        return []
    shares = [f"{label(row['model'])} {row['value']:.0%}" for row in covered.to_dict("records")]
    return [f"Share of actual closes inside the {percent(widest)} interval: {_listed(shares)}."]


def _direction(scoreboard: pd.DataFrame) -> list[str]:
    rows = _rows(scoreboard, "direction", BASELINES[0])
    if rows.empty:
        return ["No model predicts a direction."]
    better = [
        f"{label(row['model'])} ({row['value']:.1%})" for row in rows.to_dict("records") if row["verdict"] == "better"
    ]
    if not better:
        return ["No model's direction was shown to be better than chance."]
    return [
        f"Direction better than chance: {_listed(better)}. Where most prices rose, always predicting a rise may do as "
        "well."
    ]


def _caveat(scoreboard: pd.DataFrame, crps: pd.DataFrame, confidence: float) -> str:
    compared = scoreboard[scoreboard["verdict"] != "too few origins"]
    return (
        "An origin weighs as much as the sessions until the next one. "
        f"Skills have {confidence:.0%} intervals by block bootstrap in time, widened (Bonferroni) for the "
        f"{crps['model'].nunique()} models of each comparison. The scoreboard makes {len(compared)} comparisons over "
        "metrics and horizons: some will look good, or bad, by chance. CRPS over all steps was chosen beforehand."
    )


def _rows(scoreboard: pd.DataFrame, metric: str, baseline: str) -> pd.DataFrame:
    chosen = (scoreboard["metric"] == metric) & (scoreboard["baseline"] == baseline)
    return scoreboard[chosen & (scoreboard["horizon"] == ALL_STEPS)]


def _name(model: str) -> str:
    return {"random_walk_ewma": "a random walk with EWMA volatility", "random_walk": "a random walk"}[model]


def _change(skill: float) -> str:
    if abs(skill) < 0.0005:
        return "level"
    return f"{abs(skill):.1%} {'lower' if skill > 0 else 'higher'}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
