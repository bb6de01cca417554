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

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from assets.evaluation.risk.block_bootstrap import BlockBootstrap, Ratio, ResampledRatio
from assets.evaluation.risk.coverage_tests import block_test, christoffersen_test, kupiec_p, non_overlapping
from assets.evaluation.risk.loss_outcomes import LossOutcomes
from assets.evaluation.risk.store import ES, VAR
from assets.forecasting.bootstrap import bootstrap_interval
from assets.forecasting.verdict import REFERENCE_MODEL
from resources.derived_models import is_recalibrated

COLUMNS = ("model", "step", "measure", "level", "forecasts", "n", "exceptions", "expected", "rate_low", "rate_high",
           "block_p", "kupiec_p", "christoffersen_p", "conditional_p", "score", "baseline", "baseline_score", "skill",
           "skill_low", "skill_high", "es_z", "es_p", "reliability")  # fmt: skip
BASE_RATE = "base_rate"
_BINS = 10
Row = dict[str, object]
# Columns, (n,) each, of the forecasts of one model that have an outcome, ordered by symbol, then origin: symbol (a
# number), origin (its place in BlockBootstrap.origins), target_ts, score, baseline_score, and what was forecast.
_Forecasts = Mapping[str, np.ndarray]


def loss_rows(outcomes: LossOutcomes, step: int, level: float, bootstrap: BlockBootstrap) -> Iterator[Row]:
    """The rows of value at risk and expected shortfall of each model at one step and level."""
    losses = _losses(outcomes, level, bootstrap)
    apart = {model: _rows(own, _apart(own, bootstrap)) for model, own in losses.items()}
    positive = {model: _rows(own, own["es"] > 0) for model, own in losses.items()}
    others = [model for model in losses if model != REFERENCE_MODEL]
    paired = {model: _rows(losses[model], np.isfinite(losses[model]["baseline_score"])) for model in others}
    rates = bootstrap.resample([_mean(own["origin"], own["hit"]) for own in apart.values()])
    shortfalls = bootstrap.resample([_mean(own["origin"], _shortfall_terms(own, level)) for own in positive.values()])
    skills = dict(zip(others, bootstrap.resample([_score_ratio(paired[one]) for one in others]), strict=True))
    for model, rate, shortfall in zip(losses, rates, shortfalls, strict=True):
        key: Row = {"model": model, "step": step, "level": level, "forecasts": len(losses[model]["score"])}
        skill: Row = {}
        if model in skills:
            compared = _compared(model, others)
            skill = _skill(paired[model], REFERENCE_MODEL, skills[model], bootstrap, compared)
        score = {"score": losses[model]["score"].mean()}
        yield {**key, "measure": VAR, **_coverage(apart[model], level, rate, bootstrap), **score, **skill}
        yield {**key, "measure": ES, **_shortfall(positive[model], level, shortfall, bootstrap)}


def event_rows(outcomes: pd.DataFrame, bootstrap: BlockBootstrap) -> Iterator[Row]:
    """The rows of the probabilities of each model.

    Args:
        outcomes: columns model, symbol, origin, target_ts, step, measure, level, value, event, base_rate, ordered by
            the first three.
    """
    for (measure, level), same in outcomes.groupby(["measure", "level"]):
        events = {str(model): _events(own, bootstrap) for model, own in same.groupby("model")}
        apart = [_rows(own, _apart(own, bootstrap)) for own in events.values()]
        differences = bootstrap.resample([_mean(own["origin"], own["event"] - own["value"]) for own in apart])
        skills = bootstrap.resample([_score_ratio(own) for own in events.values()])
        for (model, own), tested, difference, skill in zip(events.items(), apart, differences, skills, strict=True):
            expected, n = float(tested["value"].sum()), len(tested["value"])
            test = block_test(difference.drawn, difference.estimate, 0.0, bootstrap.alpha, difference.blocks)
            yield {
                "model": model,
                "step": int(own["step"][0]),
                "measure": measure,
                "level": level,
                "forecasts": len(own["value"]),
                "n": n,
                "exceptions": int(tested["event"].sum()),
                "expected": expected,
                "rate_low": float(np.clip(expected / n + test.low, 0, 1)),
                "rate_high": float(np.clip(expected / n + test.high, 0, 1)),
                "block_p": test.p,
                "score": own["score"].mean(),
                **_skill(own, BASE_RATE, skill, bootstrap, _compared(model, list(events))),
                "reliability": reliability(own["value"], own["event"]),
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


def _losses(outcomes: LossOutcomes, level: float, bootstrap: BlockBootstrap) -> dict[str, _Forecasts]:
    """By model that has any, the forecasts of losses: also var, es, loss, and hit, whether the loss is beyond var."""
    excess = outcomes.loss - outcomes.var
    # The quantile score, in % of log return.
    scores = ((excess > 0) - level) * excess * 100
    names = list(outcomes.models)
    baseline = scores[names.index(REFERENCE_MODEL)] if REFERENCE_MODEL in names else np.full(scores.shape[1:], np.nan)
    place = np.searchsorted(bootstrap.origins, outcomes.origins)
    found: dict[str, _Forecasts] = {}
    for row, model in enumerate(names):
        cells = np.nonzero(outcomes.known[row])
        var, loss = outcomes.var[row][cells], outcomes.loss[cells]
        if len(loss):
            found[model] = {
                "symbol": cells[0],
                "origin": place[cells[1]],
                "target_ts": outcomes.targets[row][cells],
                "score": scores[row][cells],
                "baseline_score": baseline[cells],
                "var": var,
                "es": outcomes.es[row][cells],
                "loss": loss,
                "hit": loss > var,
            }
    return found


def _events(outcomes: pd.DataFrame, bootstrap: BlockBootstrap) -> _Forecasts:
    """The forecasts of one event by one model: also step, value, and event."""
    columns = {name: outcomes[name].to_numpy() for name in ("target_ts", "step", "value", "event")}
    return {
        **columns,
        "symbol": pd.factorize(outcomes["symbol"])[0],
        "origin": np.searchsorted(bootstrap.origins, outcomes["origin"].to_numpy()),
        "score": (columns["value"] - columns["event"]) ** 2,
        "baseline_score": (outcomes["base_rate"].to_numpy() - columns["event"]) ** 2,
    }


def _rows(forecasts: _Forecasts, rows: np.ndarray) -> _Forecasts:
    return {name: column[rows] for name, column in forecasts.items()}


def _mean(origins: np.ndarray, values: np.ndarray) -> Ratio:
    return Ratio(origins, values, np.ones(len(values)))


def _score_ratio(forecasts: _Forecasts) -> Ratio:
    return Ratio(forecasts["origin"], forecasts["score"], forecasts["baseline_score"])


def _coverage(apart: _Forecasts, level: float, rate: ResampledRatio, bootstrap: BlockBootstrap) -> Row:
    """Exceptions of the value at risk, and their tests.

    Args:
        apart: forecasts whose horizons do not overlap.
        rate: of exceptions.
    """
    hits = apart["hit"]
    test = block_test(rate.drawn, rate.estimate, level, bootstrap.alpha, rate.blocks)
    clusters = christoffersen_test(hits, apart["symbol"], level)
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


def _shortfall_terms(positive: _Forecasts, level: float) -> np.ndarray:
    """Of Acerbi and Szekely's statistic, by forecast with a positive expected shortfall."""
    terms: np.ndarray = np.where(positive["hit"], positive["loss"] / (level * positive["es"]), 0.0)
    return terms


def _shortfall(positive: _Forecasts, level: float, ratio: ResampledRatio, bootstrap: BlockBootstrap) -> Row:
    """The statistic of Acerbi and Szekely over all forecasts with a positive expected shortfall.

    Args:
        ratio: the mean of its terms.
    """
    hits = positive["hit"]
    return {
        "n": len(hits),
        "exceptions": int(hits.sum()),
        "expected": level * len(hits),
        "es_z": 1 - ratio.estimate,
        "es_p": block_test(ratio.drawn, ratio.estimate, 1.0, bootstrap.alpha, ratio.blocks).p,
    }


def _skill(paired: _Forecasts, baseline: str, ratio: ResampledRatio, bootstrap: BlockBootstrap, compared: int) -> Row:
    """1 − Σ score / Σ baseline_score, with its interval.

    Args:
        paired: forecasts that have both scores.
        ratio: Σ score / Σ baseline_score.
    """
    alpha = bootstrap.alpha / max(1, compared)
    low, high = bootstrap_interval(1 - ratio.drawn, 1 - ratio.estimate, alpha, 1, ratio.blocks)
    return {
        "baseline": baseline,
        "baseline_score": paired["baseline_score"].mean() if len(paired["score"]) else np.nan,
        "skill": 1 - ratio.estimate,
        "skill_low": low,
        "skill_high": high,
    }


def _compared(model: str, models: Sequence[str]) -> int:
    """The number of models in the comparison of one: recalibrated ones are a comparison of their own."""
    return sum(is_recalibrated(one) == is_recalibrated(model) for one in models)


def _apart(own: _Forecasts, bootstrap: BlockBootstrap) -> np.ndarray:
    """Forecasts of each symbol whose horizons do not overlap: (n,) bool."""
    symbols, starts, chosen = own["symbol"], bootstrap.origins[own["origin"]], np.zeros(len(own["symbol"]), dtype=bool)
    changes = np.flatnonzero(symbols[1:] != symbols[:-1]) + 1
    # Most symbols are forecast from the same origins.
    known: dict[tuple[bytes, bytes], np.ndarray] = {}
    for start, end in zip([0, *changes], [*changes, len(symbols)], strict=True):
        origins, targets = starts[start:end], own["target_ts"][start:end]
        same = (origins.tobytes(), targets.tobytes())
        if same not in known:
            known[same] = non_overlapping(origins, targets)
        chosen[start:end] = known[same]
    return chosen
