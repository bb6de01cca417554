"""The scoreboard as text, the most important sentence first. The report begins with it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from assets.forecasting.filters import without_recalibrated
from assets.forecasting.intervals import nominal_coverage, percent
from assets.forecasting.metrics import ALL_STEPS, BASELINES
from assets.plots import label
from resources.derived_models import is_recalibrated, raw_model

# The stronger baseline: volatility can be forecast.
REFERENCE_MODEL = "random_walk_ewma"
# Models that are listed one by one, with their figures.
MOST_NAMED = 6
_VERDICTS = {
    "better": "Better than that walk (CRPS skill, interval)",
    "no difference shown": "No difference shown (CRPS skill, interval)",
    "worse": "Worse (CRPS skill, interval)",
    "too few origins": "Too few origins for an interval (CRPS skill)",
}


def verdict_text(scoreboard: pd.DataFrame, confidence: float = 0.9) -> list[str]:
    """Sentences about a scoreboard: which models beat the random walk on CRPS, by how much; calibration; direction.

    Args:
        scoreboard: as `read_scoreboard` returns it.
        confidence: `evaluation.confidence`, the level of its intervals.
    """
    if scoreboard.empty:
        return ["No forecast has been scored out of sample yet: there is no result for any model."]
    crps = _rows(scoreboard, "crps", REFERENCE_MODEL).sort_values("skill", ascending=False, kind="stable")
    copies = crps["model"].map(is_recalibrated).astype(bool)
    models = _models(crps)
    return [
        _headline(models),
        *_by_verdict(models),
        *_recalibration(scoreboard, crps[copies]),
        *_calibration(scoreboard, models),
        *_direction(scoreboard),
        _caveat(scoreboard, crps[~copies], confidence),
    ]


def best_model(scoreboard: pd.DataFrame) -> str | None:
    """The model of the highest CRPS skill over all steps, recalibrated ones aside; None: none has any."""
    models = _models(_rows(scoreboard, "crps", REFERENCE_MODEL))
    known = models.dropna(subset=["skill"]).sort_values("skill", ascending=False, kind="stable")
    return None if known.empty else str(known["model"].iloc[0])


def _models(crps: pd.DataFrame) -> pd.DataFrame:
    """The rows of models as they forecast, without the baselines."""
    raw = without_recalibrated(crps)
    return raw[~raw["model"].isin(BASELINES)]


def _headline(models: pd.DataFrame) -> str:
    if models.empty:
        return f"No model other than the random walks has been scored against {_name(REFERENCE_MODEL)}."
    origins = f"{models['n'].min():,} origins"
    if (models["verdict"] == "too few origins").all():
        return f"Too few origins ({models['n'].max():,}) to tell whether any model beats {_name(REFERENCE_MODEL)}."
    winners = models[models["verdict"] == "better"]
    if winners.empty:
        return f"No model beats {_name(REFERENCE_MODEL)} on CRPS over all steps ({origins}): no edge was measured."
    best: Mapping[Hashable, Any] = winners.to_dict("records")[0]
    return (
        f"{label(best['model'])} beats {_name(REFERENCE_MODEL)}: CRPS {best['skill']:.1%} lower over all steps, "
        f"interval of the skill {_interval(best)} ({best['n']:,} origins)."
    )


def _by_verdict(models: pd.DataFrame) -> list[str]:
    """One sentence per verdict, with all its models, the best first."""
    found = []
    for verdict, title in _VERDICTS.items():
        rows = models[models["verdict"] == verdict].to_dict("records")
        if rows:
            # The report has a table of all of them.
            brief = verdict != "better" and len(rows) > MOST_NAMED
            shown = [label(row["model"]) if brief else _against_reference(row) for row in rows]
            found.append(
                f"{title if not brief else title.partition(' (')[0]}: {(', ' if brief else '; ').join(shown)}."
            )
    return found


def _against_reference(row: Mapping[Hashable, Any]) -> str:
    ends = f"{row['n']:,} origins" if pd.isna(row["skill_low"]) else _interval(row)
    return f"{label(row['model'])} {_signed(row['skill'])} ({ends})"


def _recalibration(scoreboard: pd.DataFrame, copies: pd.DataFrame) -> list[str]:
    """What recalibration does to skill and coverage, over all models that are recalibrated."""
    skills = _rows(scoreboard, "crps", REFERENCE_MODEL).set_index("model")["skill"]
    raw = copies["model"].map(raw_model)
    known = raw.isin(skills.index).to_numpy()
    if not known.any():
        return []
    gains = copies["skill"].to_numpy()[known] - skills.loc[raw[known]].to_numpy()
    text = f"Recalibration changes the CRPS skill by {_signed(gains.min())} to {_signed(gains.max())}"
    better = [label(raw_model(model)) for model in copies.loc[copies["verdict"] == "better", "model"]]
    then = [f"Better than that walk once recalibrated: {_listed(better)}."] if better else []
    widest, covered = _coverages(scoreboard)
    ends = [covered.loc[names[names.isin(covered.index)]] for names in (raw[known], copies["model"][known])]
    if widest is None or any(one.empty for one in ends):
        return [f"{text}.", *then]
    before, after = (f"{one.min():.0%} to {one.max():.0%}" for one in ends)
    return [f"{text}; the {percent(widest)} intervals then cover {after} of closes, before {before}.", *then]


def _calibration(scoreboard: pd.DataFrame, models: pd.DataFrame) -> list[str]:
    widest, covered = _coverages(scoreboard)
    own = covered[covered.index.isin(models["model"])]
    if widest is None or own.empty:
        return []
    shown = own.sort_values()
    if len(own) > MOST_NAMED:
        first = models.loc[models["model"].isin(own.index), "model"].iloc[0]
        shown = shown.loc[list(dict.fromkeys([shown.index[0], first, shown.index[-1]]))]
    reference = covered[covered.index == REFERENCE_MODEL]
    shares = [f"{label(str(model))} {share:.0%}" for model, share in pd.concat([shown, reference]).items()]
    ends = " (the lowest, the best by skill, the highest, and the reference)" if len(own) > MOST_NAMED else ""
    return [f"Share of actual closes inside the {percent(widest)} interval: {_listed(shares)}{ends}."]


def _coverages(scoreboard: pd.DataFrame) -> tuple[float | None, pd.Series]:
    """The widest interval whose coverage is scored, and its coverage by model."""
    scored = {nominal: str(one) for one in scoreboard["metric"].unique() if (nominal := nominal_coverage(one))}
    if not scored:
        return None, pd.Series(dtype=float)
    rows = scoreboard[(scoreboard["metric"] == scored[max(scored)]) & (scoreboard["horizon"] == ALL_STEPS)]
    return max(scored), rows.drop_duplicates("model").set_index("model")["value"]


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
        f"{crps['model'].nunique()} models of each comparison, recalibrated ones apart. The scoreboard makes "
        f"{len(compared):,} comparisons over metrics and horizons: some will look good, or bad, by chance. CRPS over "
        "all steps was chosen beforehand."
    )


def _rows(scoreboard: pd.DataFrame, metric: str, baseline: str) -> pd.DataFrame:
    chosen = (scoreboard["metric"] == metric) & (scoreboard["baseline"] == baseline)
    return scoreboard[chosen & (scoreboard["horizon"] == ALL_STEPS)]


def _name(model: str) -> str:
    return {"random_walk_ewma": "a random walk with EWMA volatility", "random_walk": "a random walk"}[model]


def _interval(row: Mapping[Hashable, Any]) -> str:
    """The interval of a skill."""
    return f"{_signed(row['skill_low'])} … {_signed(row['skill_high'])}"


def _signed(skill: float) -> str:
    """A skill in per cent, without a negative zero."""
    return f"{round(skill, 3) + 0.0:+.1%}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
