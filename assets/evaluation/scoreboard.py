"""The scoreboard: every model against the baselines, with intervals that allow for overlapping forecasts.

For every model, metric and horizon: the mean over origins (each origin is the mean of its symbols and steps), and the
skill against a baseline over the forecasts that both made. An origin weighs as much as the sessions that it stands for:
those until the next origin, so that no stretch with denser origins dominates. Intervals come from a block bootstrap in
time (bootstrap), which draws the same blocks for model and baseline. The interval of a skill has a Bonferroni
correction for the number of models compared, so that one of many does not appear best by chance: of models as they
forecast, and apart from them of recalibrated ones.

In-sample forecasts are excluded and counted. So are forecasts that the settings do not ask for (ForecastFilter): rank
correlations cover the symbols of the settings, whichever others were forecast beside them. Not here: the scoreboard as
text (verdict), charts (plots).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from assets.evaluation.origin_times import OriginTimes
from assets.evaluation.score_queries import corrected_since, made_at, origin_counts, scores_in_use
from assets.forecasting.baselines.closed_form import ESTIMATED, MODELS
from assets.forecasting.bootstrap import block_draws, bootstrap_intervals, weighted_means
from assets.forecasting.filters import ForecastFilter, UsedCheckpoints
from assets.forecasting.intervals import nominal_coverage
from assets.forecasting.metrics import ALL_STEPS, LOSSES, Metric, is_share
from assets.forecasting.origins import forward_steps
from resources.calendar import TradingCalendar
from resources.derived_models import is_recalibrated
from resources.settings import EvaluationSettings, Settings
from resources.warehouse import Warehouse

KEY = ("model", "metric", "horizon", "baseline")
COLUMNS = ("model", "metric", "horizon", "value", "low", "high", "n", "baseline", "skill", "skill_low", "skill_high",
           "verdict", "forward")  # fmt: skip
Verdict = Literal["better", "worse", "no difference shown", "too few origins"]
# Skills of equal forecasts that were computed by different arithmetic differ by less than this.
ROUNDING = 1e-9


@dataclass(frozen=True)
class ScoreboardResult:
    """A scoreboard and the figures behind it.

    Attributes:
        scoreboard: the rows of the table `scoreboard`.
        block: sessions per block of the bootstrap, where a model has forecasts of all origins.
        counts: columns model, in_sample, out_of_sample, forward: the number of origins excluded and compared, and of
            those compared that were forecast before the first target's session (origins.forward_steps);
            and vintages, the number of checkpoints, where a model has several.
        by_step: columns model, metric, step, value.
        pits: columns model, pit, weight.
        corrected_since: forecasts per model that were made from bars which were corrected since.
    """

    scoreboard: pd.DataFrame
    block: float
    counts: pd.DataFrame
    by_step: pd.DataFrame
    pits: pd.DataFrame
    corrected_since: Mapping[str, int] = field(default_factory=dict)


def build_scoreboard(
    warehouse: Warehouse, settings: Settings, checkpoints: UsedCheckpoints, calendar: TradingCalendar
) -> ScoreboardResult:
    """Compare the out-of-sample scores of the forecasts that the settings ask for.

    Args:
        checkpoints: those of each model that is compared.
    """
    horizon, chosen = settings.windows.predict_window, ForecastFilter.of(settings, warehouse)
    forward = _forward(made_at(warehouse, checkpoints, chosen), horizon, calendar)
    with scores_in_use(warehouse, checkpoints, chosen) as scores:
        paired = scores.paired(scoreboard_horizons(horizon))
        origins = np.sort(paired["origin"].unique())
        times = OriginTimes.of(origins, settings, calendar)
        weights = times.weights()
        by_origin = pd.DataFrame({"origin": origins, "weight": weights})
        by_step, pits = scores.means_by_step(by_origin), scores.pits(by_origin)
    paired = paired.merge(forward, on=["model", "horizon", "origin"], how="left")
    return ScoreboardResult(
        scoreboard=compute_scoreboard(paired, settings.evaluation, times, settings.seed),
        block=float(weights.sum()) / max(1, times.blocks(weights, settings.evaluation)),
        counts=_with_vintages(_with_forward(origin_counts(warehouse, checkpoints, chosen), forward), checkpoints),
        by_step=by_step,
        pits=pits,
        corrected_since=corrected_since(warehouse, checkpoints, chosen),
    )


def _with_vintages(counts: pd.DataFrame, checkpoints: UsedCheckpoints) -> pd.DataFrame:
    vintages = {model: len(used) for model, used in checkpoints.items() if not isinstance(used, str)}
    return counts.assign(vintages=counts["model"].map(vintages).fillna(1).astype(int)) if vintages else counts


def scoreboard_horizons(predict_window: int) -> list[int]:
    """The horizons of the scoreboard: 0 (all steps together), the first, the middle and the last step."""
    return sorted({ALL_STEPS, 1, (predict_window + 1) // 2, predict_window})


def compute_scoreboard(
    paired: pd.DataFrame, settings: EvaluationSettings, times: OriginTimes, seed: int
) -> pd.DataFrame:
    """The rows of the scoreboard from `paired_scores`; an empty frame from an empty one.

    Args:
        paired: may have the column `forward`: whether the forecasts from the origin are, up to the horizon.
        times: of the origins of `paired`, in increasing order.
    """
    if paired.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    keys = list(KEY)
    wide = paired.pivot(index="origin", columns=keys, values=["value", "baseline_value"]).sort_index()
    groups = list(wide["value"].columns)
    values, baselines = wide["value"].to_numpy(), wide["baseline_value"].to_numpy()
    metrics = np.array([group[keys.index("metric")] for group in groups])
    compared = _models_compared(wide["value"].columns)
    rows = []
    for known, own in _columns_by_origins(values):
        resampled = _resample(
            values[known][:, own], baselines[known][:, own], metrics[own], times.at(known), settings, seed
        )
        named = pd.DataFrame([groups[column] for column in own], columns=keys)
        rows.append(named.join(_figures(resampled, metrics[own], 1 - settings.confidence, compared[own])))
    forward = paired.assign(forward=paired.get("forward", False)).groupby(keys)["forward"].sum().astype(int)
    board = pd.concat(rows).merge(forward.reset_index(), on=keys)[list(COLUMNS)]
    return board.sort_values(keys, ignore_index=True)


def _forward(made: pd.DataFrame, horizon: int, calendar: TradingCalendar) -> pd.DataFrame:
    """Whether the forecasts from each origin are forward: columns model, origin, horizon, forward.

    Over all steps they are if they are for the first, whose session begins first.
    """
    steps = forward_steps(made["origin"].to_numpy(), made["made_at"].to_numpy(), horizon, calendar)
    return pd.concat(
        made[["model", "origin"]].assign(horizon=one, forward=steps[:, max(one, 1) - 1])
        for one in scoreboard_horizons(horizon)
    )


def _with_forward(counts: pd.DataFrame, forward: pd.DataFrame) -> pd.DataFrame:
    over_all_steps = forward[forward["horizon"] == ALL_STEPS].groupby("model")["forward"].sum()
    return counts.assign(forward=counts["model"].map(over_all_steps).fillna(0).astype(int))


def verdict_of(low: float, high: float) -> Verdict:
    """The verdict on a skill with this interval."""
    if np.isnan(low):
        return "too few origins"
    if low > ROUNDING:
        return "better"
    return "worse" if high < -ROUNDING else "no difference shown"


def write_scoreboard(warehouse: Warehouse, scoreboard: pd.DataFrame) -> bool:
    """Replace the scoreboard in one transaction and return True; leave an equal one as it is and return False."""
    fresh = scoreboard.sort_values(list(KEY), ignore_index=True)
    stored = read_scoreboard(warehouse)
    if len(stored) == len(fresh) and stored.astype(fresh.dtypes.to_dict()).equals(fresh):
        return False
    with warehouse.write() as connection:
        connection.register("new_scoreboard", fresh)
        connection.execute("DELETE FROM scoreboard")
        connection.execute(f"INSERT INTO scoreboard BY NAME SELECT {', '.join(COLUMNS)} FROM new_scoreboard")
    return True


def read_scoreboard(warehouse: Warehouse) -> pd.DataFrame:
    """The scoreboard as last written, ordered by model, metric, horizon and baseline."""
    stored = warehouse.frame(f"SELECT {', '.join(COLUMNS)} FROM scoreboard ORDER BY ALL")
    return stored.sort_values(list(KEY), ignore_index=True)


def origins_text(counts: pd.DataFrame) -> str:
    """How many origins of each model with weights can be scored, as text: models with the same numbers together."""
    models: dict[str, list[str]] = {}
    for one in counts.itertuples():
        if one.model not in (*MODELS, *ESTIMATED) and not is_recalibrated(str(one.model)):
            text = f"{one.out_of_sample} out of sample ({one.forward} forward), {one.in_sample} in-sample"
            models.setdefault(text, []).append(str(one.model))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in models.items())


@dataclass(frozen=True)
class _Resampled:
    """Means and skills of some columns with the same origins, and those of resampled histories: (draws, columns)."""

    values: np.ndarray
    skills: np.ndarray
    drawn_values: np.ndarray
    drawn_skills: np.ndarray
    origins: int
    blocks: int


def _columns_by_origins(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows that are known, and the columns of which exactly these are."""
    known = np.ascontiguousarray(np.isfinite(values).T)
    columns: dict[bytes, list[int]] = {}
    for column, rows in enumerate(known):
        columns.setdefault(rows.tobytes(), []).append(column)
    for own in columns.values():
        yield np.flatnonzero(known[own[0]]), np.array(own)


def _resample(
    values: np.ndarray,
    baselines: np.ndarray,
    metrics: np.ndarray,
    times: OriginTimes,
    settings: EvaluationSettings,
    seed: int,
) -> _Resampled:
    weights, columns = times.weights(), values.shape[1]
    blocks = times.blocks(weights, settings)
    both = np.hstack([values, baselines])
    means = weighted_means(both, weights)
    drawn = (
        block_draws(both, weights, blocks, settings.bootstrap_draws, seed)
        if blocks
        else np.full((1, 2 * columns), np.nan)
    )
    return _Resampled(
        values=means[:columns],
        skills=_skills(means[:columns], means[columns:], metrics),
        drawn_values=drawn[:, :columns],
        drawn_skills=_skills(drawn[:, :columns], drawn[:, columns:], metrics),
        origins=len(values),
        blocks=blocks,
    )


def _models_compared(columns: pd.Index) -> np.ndarray:
    """The number of models in the comparison that each column is part of: (columns,).

    Recalibrated forecasts are a comparison of their own: beside those of the model itself they are no second chance to
    appear best, and would only widen its interval.
    """
    groups = columns.to_frame(index=False)
    groups["recalibrated"] = groups["model"].map(is_recalibrated)
    by = ["metric", "horizon", "baseline", "recalibrated"]
    return np.asarray(groups.groupby(by)["model"].transform("nunique"))


def _figures(found: _Resampled, metrics: np.ndarray, alpha: float, compared: np.ndarray) -> pd.DataFrame:
    """The figures of each column, with a correction of the skill's interval for `compared` (columns,) models."""
    low, high = bootstrap_intervals(found.drawn_values, found.values, alpha, 1, found.blocks)
    least, most = np.array([_range(metric) for metric in metrics]).T
    skill_low, skill_high = np.empty((2, len(metrics)))
    for count in np.unique(compared):
        own = compared == count
        skill_low[own], skill_high[own] = bootstrap_intervals(
            found.drawn_skills[:, own], found.skills[own], alpha / count, 1, found.blocks
        )
    return pd.DataFrame(
        {
            "value": found.values,
            "low": np.clip(low, least, most),
            "high": np.clip(high, least, most),
            "n": found.origins,
            "skill": found.skills,
            "skill_low": skill_low,
            "skill_high": skill_high,
            "verdict": [verdict_of(*ends) for ends in zip(skill_low, skill_high, strict=True)],
        }
    )


def _skills(value: np.ndarray, baseline: np.ndarray, metrics: np.ndarray) -> np.ndarray:
    """Skills from the means of a metric, by columns.

    For losses 1 − ratio, for coverages the reduction of the distance to the nominal level, else the difference.
    """
    covered = [nominal_coverage(metric) for metric in metrics]
    losses, coverages = np.isin(metrics, LOSSES), np.array([one is not None for one in covered])
    nominal = np.array([one or 0.0 for one in covered])
    with np.errstate(divide="ignore", invalid="ignore"):
        # Two losses of 0 have a skill of 0: a price that never moves is predicted by every model.
        ratio = np.where(value == baseline, 0.0, 1 - value / baseline)
    return np.select(
        [losses, coverages],
        [ratio, np.abs(baseline - nominal) - np.abs(value - nominal)],
        value - baseline,
    )


def _range(metric: Metric) -> tuple[float, float]:
    """The smallest and the largest possible mean of a metric."""
    if metric == "rank_ic":
        return -1.0, 1.0
    return 0.0, 1.0 if is_share(metric) else np.inf
