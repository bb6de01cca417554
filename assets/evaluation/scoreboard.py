"""The scoreboard: every model against the baselines, with intervals that allow for overlapping forecasts.

For every model, metric and horizon: the mean over origins (each origin is the mean of its symbols and steps), and the
skill against a baseline over the forecasts that both made. Intervals come from a circular block bootstrap over origins
(Politis and Romano, 1992; package arch): forecasts of neighbouring origins share days, so whole blocks of origins are
drawn, the same ones for model and baseline, and the intervals are widened for a small number of blocks (bootstrap). The
interval of a skill has a Bonferroni correction for the number of models compared, so that one of many does not appear
best by chance.

In-sample forecasts are excluded and counted. So are forecasts that the settings do not ask for (ForecastFilter): rank
correlations cover the symbols of the settings, whichever others were forecast beside them. Not here: the scoreboard as
text (verdict), charts (plots).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from assets.evaluation.score_queries import means_by_step, origin_counts, paired_scores, pit_values
from assets.forecasting.bootstrap import block_length, bootstrap_interval
from assets.forecasting.filters import ForecastFilter
from assets.forecasting.intervals import nominal_coverage
from assets.forecasting.metrics import ALL_STEPS, LOSSES, Metric, is_share
from resources.calendar import TradingCalendar
from resources.settings import EvaluationSettings, Settings
from resources.warehouse import Warehouse

KEY = ("model", "metric", "horizon", "baseline")
COLUMNS = ("model", "metric", "horizon", "value", "low", "high", "n", "baseline", "skill", "skill_low", "skill_high",
           "verdict")  # fmt: skip
Verdict = Literal["better", "worse", "no difference shown", "too few origins"]
# Skills of equal forecasts that were computed by different arithmetic differ by less than this.
ROUNDING = 1e-9


@dataclass(frozen=True)
class ScoreboardResult:
    """A scoreboard and the figures behind it.

    Attributes:
        scoreboard: the rows of the table `scoreboard`.
        block: origins per block of the bootstrap.
        counts: columns model, in_sample, out_of_sample: the number of origins excluded and compared.
        by_step: columns model, metric, step, value.
        pits: columns model, pit.
    """

    scoreboard: pd.DataFrame
    block: int
    counts: pd.DataFrame
    by_step: pd.DataFrame
    pits: pd.DataFrame


def build_scoreboard(
    warehouse: Warehouse, settings: Settings, checkpoints: Mapping[str, str], calendar: TradingCalendar
) -> ScoreboardResult:
    """Compare the out-of-sample scores of the forecasts that the settings ask for.

    Args:
        checkpoints: the `checkpoint` of each model that is compared.
    """
    horizon, chosen = settings.windows.predict_window, ForecastFilter.of(settings, warehouse)
    paired = paired_scores(warehouse, checkpoints, scoreboard_horizons(horizon), chosen)
    origins = np.sort(paired["origin"].unique())
    overlap = overlapping_origins(_bars_between(origins, calendar), horizon)
    block = settings.evaluation.block_origins or block_length(overlap, len(origins))
    return ScoreboardResult(
        scoreboard=compute_scoreboard(paired, settings.evaluation, block, settings.seed),
        block=block,
        counts=origin_counts(warehouse, checkpoints, chosen),
        by_step=means_by_step(warehouse, checkpoints, chosen),
        pits=pit_values(warehouse, checkpoints, chosen),
    )


def overlapping_origins(bars_between: Sequence[int], horizon: int) -> int:
    """The number of neighbouring origins whose forecasts share a bar, for origins `bars_between` bars apart."""
    return int(np.ceil(horizon / max(1.0, float(np.median(bars_between))))) if len(bars_between) else 1


def scoreboard_horizons(predict_window: int) -> list[int]:
    """The horizons of the scoreboard: 0 (all steps together), the first, the middle and the last step."""
    return sorted({ALL_STEPS, 1, (predict_window + 1) // 2, predict_window})


def compute_scoreboard(paired: pd.DataFrame, settings: EvaluationSettings, block: int, seed: int) -> pd.DataFrame:
    """The rows of the scoreboard from `paired_scores`; an empty frame from an empty one."""
    if paired.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    keys = list(KEY)
    wide = paired.pivot(index="origin", columns=keys, values=["value", "baseline_value"]).sort_index()
    groups = list(wide["value"].columns)
    values, baselines = wide["value"].to_numpy(), wide["baseline_value"].to_numpy()
    metrics = [group[keys.index("metric")] for group in groups]
    drawn_values, drawn_skills = _bootstrap(values, baselines, metrics, block, settings.bootstrap_draws, seed)
    skills = _skills(values, baselines, metrics)
    counts = np.isfinite(values).sum(axis=0)
    models = paired.groupby(["metric", "horizon", "baseline"])["model"].nunique()
    alpha = 1 - settings.confidence
    rows = []
    for place, group in enumerate(groups):
        key = dict(zip(keys, group, strict=True))
        value, skill, count = np.nanmean(values[:, place]), skills[place], counts[place]
        interval = bootstrap_interval(drawn_values[:, place], value, alpha, block, count)
        low, high = np.clip(interval, *_range(key["metric"]))
        corrected = alpha / models[key["metric"], key["horizon"], key["baseline"]]
        skill_low, skill_high = bootstrap_interval(drawn_skills[:, place], skill, corrected, block, count)
        rows.append(
            {
                **key,
                "value": value,
                "low": low,
                "high": high,
                "n": count,
                "skill": skill,
                "skill_low": skill_low,
                "skill_high": skill_high,
                "verdict": verdict_of(skill_low, skill_high),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


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
        connection.execute(f"INSERT INTO scoreboard SELECT {', '.join(COLUMNS)} FROM new_scoreboard")
    return True


def read_scoreboard(warehouse: Warehouse) -> pd.DataFrame:
    """The scoreboard as last written, ordered by model, metric, horizon and baseline."""
    stored = warehouse.frame(f"SELECT {', '.join(COLUMNS)} FROM scoreboard ORDER BY ALL")
    return stored.sort_values(list(KEY), ignore_index=True)


def _bars_between(origins: np.ndarray, calendar: TradingCalendar) -> list[int]:
    """The number of bars of the calendar from each origin to the next."""
    if len(origins) < 2:
        return []
    first, last = (pd.Timestamp(origin).date() for origin in (origins[0], origins[-1]))
    return [int(bars) for bars in np.diff(calendar.stamps(first, last).searchsorted(origins))]


def _bootstrap(
    values: np.ndarray, baselines: np.ndarray, metrics: Sequence[Metric], block: int, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean values and skills of `draws` resampled histories of origins: (draws, columns) each."""
    from arch.bootstrap import CircularBlockBootstrap

    bootstrap = CircularBlockBootstrap(block, values, baselines, seed=np.random.default_rng(seed))
    drawn = bootstrap.apply(lambda v, b: np.r_[_means(v), _skills(v, b, metrics)], draws)
    return drawn[:, : len(metrics)], drawn[:, len(metrics) :]


def _skills(values: np.ndarray, baselines: np.ndarray, metrics: Sequence[Metric]) -> np.ndarray:
    """(origins, columns) → (columns,).

    For losses 1 − ratio, for coverages the reduction of the distance to the nominal level, else the difference.
    """
    value, baseline = _means(values), _means(baselines)
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


def _means(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    count = known.sum(axis=0)
    return np.where(count, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _range(metric: Metric) -> tuple[float, float]:
    """The smallest and the largest possible mean of a metric."""
    if metric == "rank_ic":
        return -1.0, 1.0
    return 0.0, 1.0 if is_share(metric) else np.inf
