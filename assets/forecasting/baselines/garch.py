"""The baselines garch and gjr_garch: GARCH(1,1) and GJR-GARCH(1,1,1) with Student-t innovations, pooled parameters.

    σ²(t+1) = (1 - φ)·σ̄² + (α + γ·[ε(t) < 0])·ε(t)² + β·σ²(t);   φ = α + γ/2 + β;   γ = 0 in GARCH

α, γ, β and the degrees of freedom are the medians of the symbols' own estimates by arch (`models.garch`) on the
training range: they vary little between symbols, and the estimate of one is noisy. σ̄² is the mean squared log return of
a symbol's own past, so that a symbol without training bars is forecast, too (variance targeting: Engle and Mezrich,
1996).

The variance over h steps is exact. The shape of the law comes from simulated paths, standardised, for each ratio of the
first step's variance to σ̄². It is made symmetric: the median is the last close.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from assets.forecasting.forecaster import METHOD
from assets.forecasting.models.garch import LEAST_RETURNS, Garch, standardised_t
from assets.forecasting.models.series import NoFitError
from assets.forecasting.recursion import first_order
from assets.market.history import CLOSE, BarHistory

logger = logging.getLogger("candlecast.baselines")
# Symbols that the parameters are estimated on at most, evenly spaced by name: the medians of more hardly differ.
MOST_SYMBOLS = 100
# Estimates at the bounds of the parameters have no mean reversion.
MOST_PERSISTENT = 0.999
# The first variance of the recursion, as in arch.
BACKCAST, BACKCAST_DECAY = 75, 0.94
PATHS, SEED = 8_000, 7
# Logs of the ratio of the first step's variance to the unconditional one at which shapes are simulated.
RATIOS = np.linspace(-4.0, 4.0, 17)


@dataclass(frozen=True)
class GarchLaw:
    """Parameters of a GARCH(1,1) or GJR-GARCH(1,1,1) up to its unconditional variance.

    Attributes:
        degrees: degrees of freedom of the innovations, above 2.
    """

    alpha: float
    gamma: float
    beta: float
    degrees: float

    @property
    def persistence(self) -> float:
        """φ: the share of a deviation from the unconditional variance that remains after a bar."""
        return self.alpha + self.gamma / 2 + self.beta

    def news(self, returns: np.ndarray) -> np.ndarray:
        """What a return adds to the variance of the next bar."""
        return np.asarray((self.alpha + self.gamma * (returns < 0)) * returns**2)

    def next_variances(self, returns: np.ndarray, unconditional: np.ndarray) -> np.ndarray:
        """The variance of the bar after each of (n,) returns, given the unconditional variance as of that bar, (n,)."""
        count = len(returns)
        passed = np.arange(1.0, count + 1)
        recursion = first_order(self.news(returns), self.beta)
        constants = (1 - self.persistence) * unconditional * (1 - self.beta**passed) / (1 - self.beta)
        # As of each bar: no value reads a later return.
        squares, weights = returns[:BACKCAST] ** 2, BACKCAST_DECAY ** np.arange(min(BACKCAST, count))
        backcasts = np.cumsum(squares * weights) / np.cumsum(weights)
        first = backcasts[np.minimum(np.arange(count), len(backcasts) - 1)] if count else unconditional
        start = (1 - self.persistence) * unconditional + self.persistence * first
        return np.asarray(recursion + constants + self.beta**passed * start)

    def cumulative_variances(self, first: np.ndarray, unconditional: np.ndarray, steps: int) -> np.ndarray:
        """Variances of the log return over 1 … steps bars, (n, steps), given that of the first bar, (n,)."""
        decay = self.persistence ** np.arange(steps)
        return np.asarray(np.cumsum(unconditional[:, None] + decay * (first - unconditional)[:, None], axis=1))

    def shapes(self, steps: int, levels: Sequence[float]) -> np.ndarray:
        """Quantiles of the standardised log return over 1 … steps bars: (RATIOS, steps, levels), symmetric."""
        generator = np.random.default_rng(SEED)
        variances, total = np.exp(RATIOS)[:, None].repeat(PATHS, axis=1), np.zeros((len(RATIOS), PATHS))
        exact = self.cumulative_variances(np.exp(RATIOS), np.ones(len(RATIOS)), steps)
        distance, sign = np.abs(2 * np.asarray(levels) - 1), np.sign(np.asarray(levels) - 0.5)
        quantiles = np.empty((len(RATIOS), steps, len(levels)))
        for step in range(steps):
            drawn = standardised_t(generator, self.degrees, PATHS)
            errors = np.sqrt(variances) * drawn
            total += errors
            standardised = np.abs(total) / np.sqrt(exact[:, step])[:, None]
            quantiles[:, step] = sign * np.quantile(standardised, distance, axis=1, method=METHOD).T
            variances = 1 - self.persistence + self.news(errors) + self.beta * variances
        return quantiles


def log_returns(history: BarHistory, last: int | None = None) -> np.ndarray:
    """Log returns of the close, adjusted, up to the bar `last` (None: all): (n - 1,), each of its two bars alone."""
    end = len(history) if last is None else last + 1
    closes, growth = np.log(history.quoted[:end, CLOSE]), history.growth[:end]
    return np.asarray(np.diff(closes) + np.log(growth[1:] / growth[:-1]))


def unconditional_variances(returns: np.ndarray) -> np.ndarray:
    """The mean squared return up to each of (n,) returns."""
    return np.asarray(np.cumsum(returns**2) / np.arange(1.0, len(returns) + 1))


def pooled_law(returns: Mapping[str, np.ndarray], asymmetric: bool) -> GarchLaw | None:
    """The medians of the estimates of the symbols with at least LEAST_RETURNS returns; None: no symbol has an estimate.

    Args:
        returns: log returns of the training range by symbol.
    """
    names = sorted(name for name, own in returns.items() if len(own) >= LEAST_RETURNS and own.std() > 0)
    chosen = np.unique(np.linspace(0, len(names) - 1, min(MOST_SYMBOLS, len(names))).astype(int))
    found = []
    for name in (names[place] for place in chosen):
        try:
            one = Garch.fit(returns[name] / returns[name].std(), asymmetric)
        except NoFitError as reason:
            logger.info("%s: %s", name, reason)
            continue
        found.append((one.alpha, one.gamma, one.beta, one.degrees))
    if not found:
        return None
    alpha, gamma, beta, degrees = np.median(found, axis=0)
    shrunk = min(1.0, (MOST_PERSISTENT - beta) / (alpha + gamma / 2))
    return GarchLaw(*(round(float(one), 6) for one in (alpha * shrunk, gamma * shrunk, beta, degrees)))


def garch_quantiles(law: GarchLaw, shapes: np.ndarray, returns: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Quantiles of the log return from some bars of a series: (len(at), steps, levels).

    Args:
        shapes: the result of `GarchLaw.shapes`.
        returns: (n,) log returns. at: numbers of the newest return that each forecast reads.
    """
    unconditional = unconditional_variances(returns)
    first, usual = law.next_variances(returns, unconditional)[at], unconditional[at]
    variances = law.cumulative_variances(first, usual, shapes.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(np.clip(np.log(first / usual), RATIOS[0], RATIOS[-1]))
    place = (ratio - RATIOS[0]) / (RATIOS[1] - RATIOS[0])
    below = np.minimum(place.astype(int), len(RATIOS) - 2)
    part = (place - below)[:, None, None]
    return np.asarray(((1 - part) * shapes[below] + part * shapes[below + 1]) * np.sqrt(variances)[:, :, None])
