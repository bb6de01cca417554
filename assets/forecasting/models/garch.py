"""GARCH(1,1) and GJR-GARCH(1,1,1) with Student-t innovations, on log returns with mean zero.

    σ²(t+1) = ω + (α + γ·[ε(t) < 0])·ε(t)² + β·σ²(t);   γ = 0 in GARCH

Bollerslev (1987); Glosten, Jagannathan and Runkle (1993). The parameters are estimated by arch on the past returns of
each input alone. The return over h steps has no closed form, so its quantiles are those of simulated paths: PATHS
draws from the input's own seed, each with its mirror image, over all steps. So the median of GARCH is the last close,
exactly, and a wider horizon changes no earlier step.

A series with fewer than LEAST_RETURNS returns, or one whose estimation does not converge, gets the forecast of
`series.FALLBACK`, and is reported as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assets.forecasting.forecaster import path_quantiles
from assets.forecasting.models.series import (
    FALLBACK,
    FittedForecaster,
    NoFitError,
    log_closes,
    require_at_least,
    versions,
)
from assets.forecasting.plugin import ForecastInput
from resources.settings import Settings

VERSION = 1
# GARCH(1,1) needs 500 observations: below, estimates are biased towards low persistence (Hwang and Valls Pereira, Small
# sample properties of GARCH estimates and persistence, 2006).
LOOKBACK, LEAST_RETURNS = 1_000, 500
PATHS = 2_000


@dataclass(frozen=True)
class Garch:
    """Estimated parameters, of returns in standard deviations of the sample.

    Attributes:
        degrees: degrees of freedom of the innovations, above 2.
        next_variance: variance of the first step.
    """

    omega: float
    alpha: float
    gamma: float
    beta: float
    degrees: float
    next_variance: float

    @classmethod
    def fit(cls, returns: np.ndarray, asymmetric: bool) -> Garch:
        """The maximum-likelihood estimate on (n,) returns.

        Raises:
            NoFitError: the optimiser did not converge.
        """
        from arch import arch_model

        model = arch_model(returns, mean="Zero", vol="GARCH", p=1, o=int(asymmetric), q=1, dist="t", rescale=False)
        with np.errstate(all="ignore"):
            found = model.fit(disp="off", show_warning=False)
        values = found.params
        if found.convergence_flag or not np.isfinite(values).all():
            raise NoFitError("no convergence")
        gamma = float(values["gamma[1]"]) if asymmetric else 0.0
        omega, alpha, beta = (float(values[name]) for name in ("omega", "alpha[1]", "beta[1]"))
        own = cls(omega, alpha, gamma, beta, float(values["nu"]), 0.0)
        following = own.following(np.asarray(returns[-1]), np.asarray(found.conditional_volatility[-1] ** 2))
        return cls(omega, alpha, gamma, beta, own.degrees, float(following))

    def following(self, errors: np.ndarray, variances: np.ndarray) -> np.ndarray:
        """The variance of the next step, from the error and variance of this one; any shape."""
        news = self.alpha + self.gamma * (errors < 0)
        return np.asarray(self.omega + news * errors**2 + self.beta * variances)

    def cumulative_returns(self, steps: int, seed: int) -> np.ndarray:
        """Simulated returns over 1, 2, … steps: (steps, 2 · PATHS)."""
        generator = np.random.default_rng(seed)
        variances, total = np.full(2 * PATHS, self.next_variance), np.zeros(2 * PATHS)
        returns = np.empty((steps, 2 * PATHS))
        for step in range(steps):
            drawn = standardised_t(generator, self.degrees, PATHS)
            errors = np.sqrt(variances) * np.concatenate([drawn, -drawn])
            total = total + errors
            returns[step] = total
            variances = self.following(errors, variances)
        return returns


def standardised_t(generator: np.random.Generator, degrees: float, count: int) -> np.ndarray:
    """Draws of Student's t with variance 1: (count,). degrees: above 2."""
    return np.asarray(generator.standard_t(degrees, count) * np.sqrt(1 - 2 / degrees))


def garch_t(settings: Settings, *, lookback: int = LOOKBACK) -> FittedForecaster:
    """GARCH(1,1) with Student-t innovations. `lookback`: bars that it is estimated on."""
    return _forecaster("garch_t", lookback, asymmetric=False)


def gjr_garch_t(settings: Settings, *, lookback: int = LOOKBACK) -> FittedForecaster:
    """GJR-GARCH(1,1,1) with Student-t innovations. `lookback`: bars that it is estimated on."""
    return _forecaster("gjr_garch_t", lookback, asymmetric=True)


def _forecaster(name: str, lookback: int, asymmetric: bool) -> FittedForecaster:
    require_at_least(name, lookback=(lookback, LEAST_RETURNS + 1))
    recipe = {
        "version": VERSION,
        "lookback": lookback,
        "paths": 2 * PATHS,
        "least_returns": LEAST_RETURNS,
        "fallback": FALLBACK,
        **versions("arch"),
    }

    def quantiles(one: ForecastInput, levels: Sequence[float]) -> np.ndarray:
        closes = log_closes(one, least=2, newest=lookback)
        returns = np.diff(closes)
        if len(returns) < LEAST_RETURNS:
            raise NoFitError(f"fewer than {LEAST_RETURNS} returns")
        scale = returns.std()
        if scale == 0:
            raise NoFitError("the price never moves")
        simulated = Garch.fit(returns / scale, asymmetric).cumulative_returns(len(one.targets), one.seed)
        drawn = path_quantiles(simulated.T[None, :, :, None], levels)[0, :, 0]
        return np.asarray(np.exp(closes[-1] + scale * drawn))

    return FittedForecaster(name, "volatility model", "NCSA", recipe, lookback, quantiles)
