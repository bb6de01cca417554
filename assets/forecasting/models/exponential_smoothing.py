"""AutoETS and AutoTheta of statsforecast on log closes.

Both are fitted to the newest bars of each input alone. The forecast of the log close is normal, so that the quantiles
exist at every level, symmetric about the median:

- auto_ets: exponential smoothing with additive errors and an automatic trend (none, additive or damped; "AZN" in
  Hyndman's notation), chosen by AICc. Mean and variance in closed form (Hyndman, Koehler, Ord and Snyder, Forecasting
  with Exponential Smoothing, 2008, table 6.1). Errors are additive because the series is a logarithm: a multiplicative
  error would depend on the currency.
- auto_theta: the best of the standard, optimised and dynamic Theta models by in-sample error (Fiorucci et al., 2016).
  statsforecast draws its intervals from 200 simulated paths of one fixed seed. Here the variance of the same recursion
  is exact: σ²·(1 + (h - 1)·α²), that of simple exponential smoothing with drift (Hyndman and Billah, 2003).

No season: bars of a session have none in the log close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from assets.forecasting.models.series import (
    FALLBACK,
    FittedForecaster,
    NoFitError,
    log_closes,
    normal_quantiles,
    require_at_least,
    versions,
)
from assets.forecasting.plugin import ForecastInput
from resources.settings import Settings

VERSION = 1
LOOKBACK, LEAST_CLOSES = 512, 30
# statsforecast raises it as a bare Exception.
NO_FIT = "no model able to be fitted"
# The central interval that is one standard deviation wide on each side of a normal mean, in per cent.
ONE_DEVIATION = 68.26894921370859
# (log closes, horizon) → mean and standard deviation of the log close per step, (horizon,) each.
NormalForecast = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def auto_ets(settings: Settings, *, lookback: int = LOOKBACK) -> FittedForecaster:
    """AutoETS. `lookback`: bars that it is fitted to."""
    return _forecaster("auto_ets", lookback, _ets)


def auto_theta(settings: Settings, *, lookback: int = LOOKBACK) -> FittedForecaster:
    """AutoTheta. `lookback`: bars that it is fitted to."""
    return _forecaster("auto_theta", lookback, _theta)


def _forecaster(name: str, lookback: int, forecast: NormalForecast) -> FittedForecaster:
    require_at_least(name, lookback=(lookback, LEAST_CLOSES))
    recipe = {"version": VERSION, "lookback": lookback, "fallback": FALLBACK, **versions("statsforecast")}

    def quantiles(one: ForecastInput, levels: Sequence[float]) -> np.ndarray:
        closes, horizon = log_closes(one, LEAST_CLOSES, lookback), len(one.targets)
        if np.ptp(closes) == 0:
            raise NoFitError("the price never moves")
        try:
            mean, deviation = forecast(closes, horizon)
        except Exception as error:
            if str(error) != NO_FIT:
                raise
            raise NoFitError("no fit") from error
        if not (np.isfinite(mean) & np.isfinite(deviation)).all():
            raise NoFitError("no finite forecast")
        return normal_quantiles(mean, deviation, levels)

    return FittedForecaster(name, "exponential smoothing", "Apache-2.0", recipe, lookback, quantiles)


def _ets(closes: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    from statsforecast.models import AutoETS

    forecast = AutoETS(season_length=1, model="AZN").forecast(closes, horizon, level=[ONE_DEVIATION])
    return forecast["mean"], forecast["mean"] - forecast[f"lo-{ONE_DEVIATION}"]


def _theta(closes: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    from statsforecast.models import AutoTheta

    model = AutoTheta(season_length=1).fit(closes)
    # As statsforecast estimates it: the first three errors depend on the initial state.
    sigma, alpha = np.std(model.model_["residuals"][3:], ddof=1), model.model_["par"]["alpha"]
    return model.predict(horizon)["mean"], sigma * np.sqrt(1 + np.arange(horizon) * alpha**2)
