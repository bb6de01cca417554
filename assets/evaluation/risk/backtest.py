"""The backtest of the risk measures: one row per model, step, measure and level.

Exceptions are counted over forecasts whose horizons do not overlap, scores over all. Intervals and p-values by blocks
of dates come from the bootstrap of the scoreboard (assets.forecasting.bootstrap), so that they allow for the dependence
of symbols on each other and of neighbouring origins; Kupiec's and Christoffersen's do not. Skills have the scoreboard's
correction for the number of models.

Scores: of value at risk the quantile score, against random_walk_ewma; of probabilities the Brier score, against the
past share of the symbol. Of expected shortfall the second statistic of Acerbi and Szekely (2014, Backtesting expected
shortfall): Z = 1 − Σ loss · exception / (level · n · ES), 0 on average where the forecasts are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.evaluation.origin_times import OriginTimes
from assets.evaluation.risk.coverage_tests import block_test, christoffersen_test, kupiec_p, non_overlapping
from assets.evaluation.risk.store import ES, VAR
from assets.forecasting.bootstrap import block_draws, bootstrap_interval, weighted_means
from assets.forecasting.verdict import REFERENCE_MODEL
from resources.derived_models import is_recalibrated
from resources.settings import EvaluationSettings

COLUMNS = ("model", "step", "measure", "level", "forecasts", "n", "exceptions", "expected", "rate_low", "rate_high",
           "block_p", "kupiec_p", "christoffersen_p", "conditional_p", "score", "baseline", "baseline_score", "skill",
           "skill_low", "skill_high", "es_z", "es_p", "reliability")  # fmt: skip
BASE_RATE = "base_rate"
_BINS = 10
Row = dict[str, object]


@dataclass(frozen=True)
class BlockBootstrap:
    """Resamples blocks of origins: how the origins lie in time, and the settings of the evaluation.

    Attributes:
        origins: (n,) datetime64, increasing: of all forecasts of the backtest.
        times: of these.
    """

    origins: np.ndarray
    times: OriginTimes
    settings: EvaluationSettings
    seed: int

    @property
    def alpha(self) -> float:
        return 1 - self.settings.confidence

    def ratio(self, origins: np.ndarray, above: np.ndarray, below: np.ndarray) -> tuple[float, np.ndarray, int]:
        """Σ above / Σ below over forecasts, as an estimate and of resampled histories: (draws,); and the blocks.

        Args:
            origins: (m,) of each forecast.
            above, below: (m, …) what is summed, by forecast.

        Returns:
            NaN and 0 blocks, where there are no forecasts.
        """
        if not len(origins):
            return np.nan, np.full(1, np.nan), 0
        values, place = np.unique(origins, return_inverse=True)
        sums = np.column_stack([np.bincount(place, one, len(values)) for one in (above, below)])
        times = self.times.at(np.searchsorted(self.origins, values))
        weights = times.weights()
        blocks = times.blocks(weights, self.settings)
        mean = weighted_means(sums, weights)
        if not blocks:
            return float(_divided(mean[0], mean[1])), np.full(1, np.nan), 0
        drawn = block_draws(sums, weights, blocks, self.settings.bootstrap_draws, self.seed)
        return float(_divided(mean[0], mean[1])), _divided(drawn[:, 0], drawn[:, 1]), blocks


def loss_rows(outcomes: pd.DataFrame, step: int, level: float, bootstrap: BlockBootstrap) -> Iterator[Row]:
    """The rows of value at risk and expected shortfall of each model at one step and level.

    Args:
        outcomes: columns model, symbol, origin, target_ts, var, es, loss, ordered by the first three.
    """
    scored = outcomes.assign(score=_quantile_score(outcomes, level))
    baseline = scored.loc[scored["model"] == REFERENCE_MODEL, ["symbol", "origin", "score"]]
    others = [model for model in scored["model"].unique() if model != REFERENCE_MODEL]
    for model, own in scored.groupby("model"):
        key: Row = {"model": str(model), "step": step, "level": level, "forecasts": len(own)}
        skill: Row = {}
        if model != REFERENCE_MODEL:
            paired = own.merge(baseline.rename(columns={"score": "baseline_score"}), on=["symbol", "origin"])
            skill = _skill(paired, REFERENCE_MODEL, bootstrap, _compared(str(model), others))
        yield {**key, "measure": VAR, **_coverage(own, level, bootstrap), "score": own["score"].mean(), **skill}
        yield {**key, "measure": ES, **_shortfall(own, level, bootstrap)}


def event_rows(outcomes: pd.DataFrame, bootstrap: BlockBootstrap) -> Iterator[Row]:
    """The rows of the probabilities of each model.

    Args:
        outcomes: columns model, symbol, origin, target_ts, step, measure, level, value, event, base_rate, ordered by
            the first three.
    """
    for measure, level in sorted(set(zip(outcomes["measure"].tolist(), outcomes["level"].tolist(), strict=True))):
        same = outcomes[(outcomes["measure"] == measure) & (outcomes["level"] == level)]
        models = [str(model) for model in same["model"].unique()]
        for model, own in same.groupby("model"):
            scored = own.assign(
                score=(own["value"] - own["event"]) ** 2, baseline_score=(own["base_rate"] - own["event"]) ** 2
            )
            apart = scored[_apart(scored)]
            difference, drawn, blocks = bootstrap.ratio(
                apart["origin"].to_numpy(), (apart["event"] - apart["value"]).to_numpy(), np.ones(len(apart))
            )
            expected = float(apart["value"].sum())
            test = block_test(drawn, difference, 0.0, bootstrap.alpha, blocks)
            yield {
                "model": str(model),
                "step": int(own["step"].iloc[0]),
                "measure": measure,
                "level": level,
                "forecasts": len(own),
                "n": len(apart),
                "exceptions": int(apart["event"].sum()),
                "expected": expected,
                "rate_low": float(np.clip(expected / len(apart) + test.low, 0, 1)),
                "rate_high": float(np.clip(expected / len(apart) + test.high, 0, 1)),
                "block_p": test.p,
                "score": scored["score"].mean(),
                **_skill(scored, BASE_RATE, bootstrap, _compared(str(model), models)),
                "reliability": reliability(own["value"].to_numpy(), own["event"].to_numpy()),
            }


def reliability(probabilities: np.ndarray, events: np.ndarray) -> float:
    """The reliability term of the Brier score (Murphy, 1973) over ten bins of probability: 0 if calibrated."""
    bins = reliability_bins(probabilities, events)
    counts, difference = bins["n"].to_numpy(), (bins["forecast"] - bins["observed"]).to_numpy()
    return float(counts @ difference**2 / counts.sum())


def reliability_bins(probabilities: np.ndarray, events: np.ndarray) -> pd.DataFrame:
    """By bin of probability: columns forecast (its mean), observed (the share of events), n."""
    place = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    frame = pd.DataFrame({"bin": place, "forecast": probabilities, "observed": events, "n": 1.0})
    return frame.groupby("bin").agg({"forecast": "mean", "observed": "mean", "n": "sum"})


def _coverage(own: pd.DataFrame, level: float, bootstrap: BlockBootstrap) -> Row:
    """Exceptions of the value at risk, and their tests."""
    apart = own[_apart(own)]
    hits = (apart["loss"] > apart["var"]).to_numpy()
    rate, drawn, blocks = bootstrap.ratio(apart["origin"].to_numpy(), hits, np.ones(len(hits)))
    test = block_test(drawn, rate, level, bootstrap.alpha, blocks)
    clusters = christoffersen_test(hits, apart["symbol"].to_numpy(), level)
    return {
        "n": len(hits),
        "exceptions": int(hits.sum()),
        "expected": level * len(hits),
        "rate_low": float(np.clip(test.low, 0, 1)),
        "rate_high": float(np.clip(test.high, 0, 1)),
        "block_p": test.p,
        "kupiec_p": kupiec_p(int(hits.sum()), len(hits), level),
        "christoffersen_p": clusters.independence,
        "conditional_p": clusters.conditional,
    }


def _shortfall(own: pd.DataFrame, level: float, bootstrap: BlockBootstrap) -> Row:
    """The statistic of Acerbi and Szekely over all forecasts with a positive expected shortfall."""
    positive = own[own["es"] > 0]
    hits = (positive["loss"] > positive["var"]).to_numpy()
    terms = np.where(hits, positive["loss"] / (level * positive["es"]), 0.0)
    ratio, drawn, blocks = bootstrap.ratio(positive["origin"].to_numpy(), terms, np.ones(len(terms)))
    return {
        "n": len(terms),
        "exceptions": int(hits.sum()),
        "expected": level * len(hits),
        "es_z": 1 - ratio,
        "es_p": block_test(drawn, ratio, 1.0, bootstrap.alpha, blocks).p,
    }


def _skill(paired: pd.DataFrame, baseline: str, bootstrap: BlockBootstrap, compared: int) -> Row:
    """1 − Σ score / Σ baseline_score, with its interval."""
    ratio, drawn, blocks = bootstrap.ratio(
        paired["origin"].to_numpy(), paired["score"].to_numpy(), paired["baseline_score"].to_numpy()
    )
    low, high = bootstrap_interval(1 - drawn, 1 - ratio, bootstrap.alpha / max(1, compared), 1, blocks)
    return {
        "baseline": baseline,
        "baseline_score": paired["baseline_score"].mean(),
        "skill": 1 - ratio,
        "skill_low": low,
        "skill_high": high,
    }


def _compared(model: str, models: Sequence[str]) -> int:
    """The number of models in the comparison of one: recalibrated ones are a comparison of their own."""
    return sum(is_recalibrated(one) == is_recalibrated(model) for one in models)


def _quantile_score(outcomes: pd.DataFrame, level: float) -> pd.Series:
    """The quantile score of the value at risk, in % of log return."""
    excess = outcomes["loss"] - outcomes["var"]
    return ((excess > 0) - level) * excess * 100


def _apart(own: pd.DataFrame) -> np.ndarray:
    """Forecasts of each symbol whose horizons do not overlap: (n,) bool. Ordered by symbol, then origin."""
    chosen = [
        non_overlapping(one["origin"].to_numpy(), one["target_ts"].to_numpy())
        for _, one in own.groupby("symbol", sort=False)
    ]
    return np.concatenate(chosen) if chosen else np.zeros(0, dtype=bool)


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(np.asarray(below) == 0, np.nan, np.divide(above, below)))
