"""The scoreboard in words, the most important first. What the report begins with."""

from __future__ import annotations

import pandas as pd

from assets.forecasting.metrics import ALL_STEPS, BASELINES
from assets.plots import label

# The harder one: volatility is what can be forecast.
RIVAL = "random_walk_ewma"


def verdict_in_words(scoreboard: pd.DataFrame, confidence: float = 0.9) -> list[str]:
    """Sentences about a scoreboard: who beats the random walk on CRPS, by how much; calibration; direction; caveats.

    Args:
        scoreboard: as `read_scoreboard` gives it.
        confidence: `evaluation.confidence`, that of its intervals.
    """
    if scoreboard.empty:
        return ["Nothing has been scored out of sample yet, so nothing can be said of any model."]
    crps = _rows(scoreboard, "crps", RIVAL)
    rivals = crps[~crps["model"].isin(BASELINES)]
    return [
        _headline(rivals),
        *(_against_rival(row) for row in rivals.sort_values("skill", ascending=False).to_dict("records")),
        *_calibration(scoreboard, rivals),
        *_direction(scoreboard),
        _caveat(scoreboard, crps, confidence),
    ]


def _headline(rivals: pd.DataFrame) -> str:
    if rivals.empty:
        return f"No model but the random walks has been scored against {_name(RIVAL)}."
    origins = f"{rivals['n'].min():,} origins"
    if (rivals["verdict"] == "too few origins").all():
        return f"Too few origins ({rivals['n'].max():,}) to say whether any model beats {_name(RIVAL)}."
    winners = [label(model) for model in rivals.loc[rivals["verdict"] == "better", "model"]]
    if winners:
        verb = "beats" if len(winners) == 1 else "beat"
        return f"{_listed(winners)} {verb} {_name(RIVAL)} on CRPS over all steps ({origins})."
    return f"No model beats {_name(RIVAL)} on CRPS over all steps ({origins}): no edge was measured."


def _against_rival(row: dict) -> str:
    if pd.isna(row["skill_low"]):
        return f"{label(row['model'])}: CRPS {_change(row['skill'])}; {row['n']} origins are too few for an interval."
    says = {
        "better": "better",
        "worse": "worse",
        "no difference shown": "no difference shown",
    }[row["verdict"]]
    return (
        f"{label(row['model'])}: CRPS {_change(row['skill'])} "
        f"(interval of the skill {row['skill_low']:+.1%} … {row['skill_high']:+.1%}): {says}."
    )


def _calibration(scoreboard: pd.DataFrame, rivals: pd.DataFrame) -> list[str]:
    covered = _rows(scoreboard, "coverage_90", BASELINES[0])
    covered = covered[covered["model"].isin([*rivals["model"], RIVAL])]
    if not covered["model"].isin(rivals["model"]).any():
        return []
    said = [f"{label(row['model'])} {row['value']:.0%}" for row in covered.to_dict("records")]
    return [f"The 90 % band held the close: {_listed(said)} of the time."]


def _direction(scoreboard: pd.DataFrame) -> list[str]:
    rows = _rows(scoreboard, "direction", BASELINES[0])
    if rows.empty:
        return ["No model gave an opinion on direction."]
    better = [
        f"{label(row['model'])} ({row['value']:.1%})" for row in rows.to_dict("records") if row["verdict"] == "better"
    ]
    if not better:
        return ["No model's direction was shown to be better than chance."]
    return [
        f"Direction better than chance: {_listed(better)}. Where most prices rose, saying up every time may do as well."
    ]


def _caveat(scoreboard: pd.DataFrame, crps: pd.DataFrame, confidence: float) -> str:
    judged = scoreboard[scoreboard["verdict"] != "too few origins"]
    return (
        f"Skills have {confidence:.0%} intervals by block bootstrap over origins, widened (Bonferroni) for the "
        f"{crps['model'].nunique()} models of each comparison. The scoreboard makes {len(judged)} comparisons over "
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
