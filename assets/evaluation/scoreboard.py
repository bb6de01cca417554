"""The scoreboard: every model against the baselines, with intervals that know forecasts overlap.

For every model, metric and horizon: the mean over origins (each origin the mean of its symbols and steps), and the
skill against a baseline over the forecasts that both made. Intervals come from a circular block bootstrap over origins
(Politis and Romano, 1992; arch): forecasts of neighbouring origins share days, so whole blocks are drawn, the same for
model and baseline, and the draws are widened for how few blocks there are (intervals). A skill's interval is
Bonferroni's over the models compared, so that one of many is not "best" by luck.

In-sample forecasts are left out, and counted. What the settings do not ask for (scope) is left out too: rank
correlations are over the symbols that they name, whichever others were forecast beside them. Not here: words (verdict),
pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from assets.evaluation.scoring import ACROSS_SYMBOLS
from assets.forecasting.bootstrap import interval_of
from assets.forecasting.filters import IN_SCOPE, ORIGIN_IN_SCOPE, Scope
from assets.forecasting.metrics import ALL_STEPS, BASELINES, CHANCE, COVERAGES, LOSSES, SHARES, Metric, nominal, rank_ic
from resources.settings import EvaluationSettings
from resources.warehouse import Warehouse

KEY = ("model", "metric", "horizon", "baseline")
COLUMNS = ("model", "metric", "horizon", "value", "low", "high", "n", "baseline", "skill", "skill_low", "skill_high",
           "verdict")  # fmt: skip
Verdict = Literal["better", "worse", "no difference shown", "too few origins"]
EVERYTHING = Scope()
# Skills of two models that say the same in other arithmetic differ by less.
ROUNDING = 1e-9

# `ranks` takes the place of the stored rank correlations where those are over other symbols too.
_USED = f"""
SELECT s.* FROM forecast_scores s SEMI JOIN used USING (model, checkpoint)
WHERE {IN_SCOPE} OR ({ORIGIN_IN_SCOPE} AND symbol = '{ACROSS_SYMBOLS}' AND NOT $others)
UNION ALL BY NAME FROM ranks
"""
_OTHERS = f"""
SELECT count(*) > 0 FROM forecasts SEMI JOIN used USING (model, checkpoint)
WHERE {ORIGIN_IN_SCOPE} AND NOT list_contains($symbols, symbol)
"""
_MEDIANS = f"""
SELECT q.model, q.checkpoint, q.origin, q.step, q.symbol, q.value / t.last - 1 AS said, t.truth / t.last - 1 AS was
FROM (SELECT * FROM forecast_quantiles SEMI JOIN used USING (model, checkpoint)
      WHERE field = 'close' AND level = 0.5 AND {IN_SCOPE}) q
JOIN scored_truths t USING (symbol, origin, step)
"""
_OUT_OF_SAMPLE = """
ANTI JOIN (SELECT model, checkpoint, origin FROM forecasts WHERE in_sample) i USING (model, checkpoint, origin)
"""
# One row a pair of models, metric, horizon and origin: the means of both over the symbols and steps that both scored.
# Sums are of decimals: they are exact, so the order in which threads add them changes no bit of the scoreboard.
_PAIRED = f"""
WITH cells AS (
    SELECT model, symbol, origin, step, metric, value::DECIMAL(38, 12) AS value
    FROM ({_USED}) {_OUT_OF_SAMPLE} WHERE metric <> 'pit'
),
pairs AS (
    SELECT m.model, m.metric, m.step, m.origin, b.model AS baseline, m.value, b.value AS other
    FROM cells m JOIN cells b USING (symbol, origin, step, metric)
    WHERE list_contains($baselines, b.model) AND m.model <> b.model AND NOT list_contains(map_keys($chance), m.metric)
    UNION ALL
    SELECT model, metric, step, origin, $baselines[1], value, $chance[metric]::DECIMAL(38, 12)
    FROM cells WHERE list_contains(map_keys($chance), metric)
),
steps AS (
    SELECT model, metric, step, origin, baseline, sum(value) AS value, sum(other) AS other, count(*) AS n
    FROM pairs GROUP BY ALL
)
SELECT model, metric, horizon, baseline, origin,
       sum(value)::DOUBLE / sum(n) AS value, sum(other)::DOUBLE / sum(n) AS other
FROM steps JOIN (SELECT unnest($horizons) AS horizon) ON horizon = {ALL_STEPS} OR horizon = step
GROUP BY ALL ORDER BY ALL
"""
_COUNTS = f"""
SELECT model, count(DISTINCT origin) FILTER (in_sample) AS in_sample,
       count(DISTINCT origin) FILTER (NOT in_sample) AS out_of_sample
FROM forecasts SEMI JOIN used USING (model, checkpoint) WHERE {IN_SCOPE} GROUP BY model ORDER BY model
"""
_PITS = f"""
SELECT model, value AS pit FROM ({_USED}) {_OUT_OF_SAMPLE} WHERE metric = 'pit'
"""
_BY_STEP = f"""
SELECT model, metric, step, avg(value::DECIMAL(38, 12)) AS value FROM ({_USED}) {_OUT_OF_SAMPLE}
WHERE metric <> 'pit' GROUP BY ALL ORDER BY ALL
"""
_READ = f"SELECT {', '.join(COLUMNS)} FROM scoreboard ORDER BY ALL"
_REPLACE = f"INSERT INTO scoreboard SELECT {', '.join(COLUMNS)} FROM new_scoreboard"


def horizons_of(predict_window: int) -> list[int]:
    """The first, the middle and the last step, and 0, all together."""
    return sorted({ALL_STEPS, 1, (predict_window + 1) // 2, predict_window})


def paired_scores(
    warehouse: Warehouse, used: Mapping[str, str], horizons: Sequence[int], scope: Scope = EVERYTHING
) -> pd.DataFrame:
    """Scores beside a baseline's: columns model, metric, horizon, baseline, origin, value, other.

    Args:
        used: the checkpoint of each model that is compared.
    """
    return _with_used(
        warehouse,
        _PAIRED,
        used,
        scope,
        {
            "horizons": list(horizons),
            "baselines": list(BASELINES),
            "chance": {"key": list(CHANCE), "value": list(CHANCE.values())},
        },
    )


def origin_counts(warehouse: Warehouse, used: Mapping[str, str], scope: Scope = EVERYTHING) -> pd.DataFrame:
    """Origins forecast in and out of sample: columns model, in_sample, out_of_sample."""
    return _with_used(warehouse, _COUNTS, used, scope)


def pits(warehouse: Warehouse, used: Mapping[str, str], scope: Scope = EVERYTHING) -> pd.DataFrame:
    """Every out-of-sample PIT: columns model, pit."""
    return _with_used(warehouse, _PITS, used, scope)


def means_by_step(warehouse: Warehouse, used: Mapping[str, str], scope: Scope = EVERYTHING) -> pd.DataFrame:
    """Mean out-of-sample scores: columns model, metric, step, value."""
    return _with_used(warehouse, _BY_STEP, used, scope)


def scoreboard_of(paired: pd.DataFrame, settings: EvaluationSettings, block: int, seed: int) -> pd.DataFrame:
    """The scoreboard's rows from `paired_scores`, in the table's columns; none from none."""
    if paired.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    keys = list(KEY)
    wide = paired.pivot(index="origin", columns=keys, values=["value", "other"]).sort_index()
    groups = list(wide["value"].columns)
    values, others = wide["value"].to_numpy(), wide["other"].to_numpy()
    metrics = [group[keys.index("metric")] for group in groups]
    drawn_values, drawn_skills = _bootstrap(values, others, metrics, block, settings.bootstrap_draws, seed)
    skills = _skills(values, others, metrics)
    counts = np.isfinite(values).sum(axis=0)
    rivals = paired.groupby(["metric", "horizon", "baseline"])["model"].nunique()
    rows = []
    for place, group in enumerate(groups):
        key = dict(zip(keys, group, strict=True))
        alpha = 1 - settings.confidence
        value, skill, count = np.nanmean(values[:, place]), skills[place], counts[place]
        low, high = np.clip(interval_of(drawn_values[:, place], value, alpha, block, count), *_range(key["metric"]))
        shared = alpha / rivals[key["metric"], key["horizon"], key["baseline"]]
        skill_low, skill_high = interval_of(drawn_skills[:, place], skill, shared, block, count)
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
    """What a skill's interval says."""
    if np.isnan(low):
        return "too few origins"
    if low > ROUNDING:
        return "better"
    return "worse" if high < -ROUNDING else "no difference shown"


def write_scoreboard(warehouse: Warehouse, scoreboard: pd.DataFrame) -> bool:
    """Replace the scoreboard in one transaction; one that is the same is left alone. True: something changed."""
    fresh = scoreboard.sort_values(list(KEY), ignore_index=True)
    kept = read_scoreboard(warehouse)
    if len(kept) == len(fresh) and kept.astype(fresh.dtypes.to_dict()).equals(fresh):
        return False
    with warehouse.write() as connection:
        connection.register("new_scoreboard", fresh)
        connection.execute("DELETE FROM scoreboard")
        connection.execute(_REPLACE)
    return True


def read_scoreboard(warehouse: Warehouse) -> pd.DataFrame:
    """The scoreboard as it was written last, by model, metric, horizon and baseline."""
    return warehouse.frame(_READ).sort_values(list(KEY), ignore_index=True)


def _bootstrap(
    values: np.ndarray, others: np.ndarray, metrics: Sequence[Metric], block: int, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means of values and skills of `draws` resampled histories of origins: (draws, columns) each."""
    from arch.bootstrap import CircularBlockBootstrap

    bootstrap = CircularBlockBootstrap(block, values, others, seed=np.random.default_rng(seed))
    drawn = bootstrap.apply(lambda v, o: np.r_[_means(v), _skills(v, o, metrics)], draws)
    return drawn[:, : len(metrics)], drawn[:, len(metrics) :]


def _skills(values: np.ndarray, others: np.ndarray, metrics: Sequence[Metric]) -> np.ndarray:
    """(origins, columns) → (columns,): 1 − ratio for losses, closeness gained for coverage, difference for the rest."""
    value, other = _means(values), _means(others)
    kinds = np.array(["loss" if m in LOSSES else "coverage" if m in COVERAGES else "difference" for m in metrics])
    aims = np.array([nominal(metric) or 0.0 for metric in metrics])
    with np.errstate(divide="ignore", invalid="ignore"):
        # Two losses of nothing are level: a price that never moves is foreseen by every model.
        ratio = np.where(value == other, 0.0, 1 - value / other)
    return np.select(
        [kinds == "loss", kinds == "coverage"],
        [ratio, np.abs(other - aims) - np.abs(value - aims)],
        value - other,
    )


def _means(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    count = known.sum(axis=0)
    return np.where(count, np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _range(metric: Metric) -> tuple[float, float]:
    """What a mean of the metric can be."""
    if metric == "rank_ic":
        return -1.0, 1.0
    return 0.0, 1.0 if metric in SHARES else np.inf


def _with_used(
    warehouse: Warehouse,
    sql: str,
    used: Mapping[str, str],
    scope: Scope,
    parameters: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    frame = pd.DataFrame({"model": list(used), "checkpoint": list(used.values())}, dtype=str)
    with warehouse.read() as connection:
        connection.register("used", frame)
        others = scope.symbols is not None and bool(connection.execute(_OTHERS, scope.parameters).fetchall()[0][0])
        connection.register("ranks", _ranks(connection.execute(_MEDIANS, scope.parameters).df() if others else None))
        known = {"others": others, **scope.parameters, **(parameters or {})}
        return connection.execute(sql, {name: value for name, value in known.items() if f"${name}" in sql}).df()


def _ranks(medians: pd.DataFrame | None) -> pd.DataFrame:
    """Rank correlations over the symbols of `_MEDIANS`, as rows of `forecast_scores`; none from none."""
    keys = ["model", "checkpoint", "origin", "step"]
    if medians is None or medians.empty:
        kinds = {"model": "str", "checkpoint": "str", "origin": "datetime64[us]", "step": "int32", "value": "float64"}
        found = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    else:
        said, was = (medians.pivot(index=keys, columns="symbol", values=name) for name in ("said", "was"))
        found = rank_ic(said, was).dropna().rename("value").reset_index()
    return found.assign(symbol=ACROSS_SYMBOLS, metric="rank_ic")
