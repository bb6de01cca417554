"""The closes that the forecasters in the box read, checked, and a forecaster that is fitted to one series at a time.

Here: checks of an input, and the forecast for series that a model cannot be fitted to. Not here: the models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from assets.forecasting.baselines.closed_form import Baseline, random_walk_ewma
from assets.forecasting.plugin import NO_TRAINING, ForecastInput, Quantiles
from resources.errors import CandlecastError

# The forecast of a series that a model cannot be fitted to: the log-normal baseline of this name.
FALLBACK: Baseline = "random_walk_ewma"


class NoFitError(Exception):
    """A model cannot be fitted to a series. The message is the reason, in a few words."""


@dataclass
class FittedForecaster:
    """A forecaster whose parameters are estimated on each input alone.

    A series that it cannot be fitted to gets the forecast of `FALLBACK`, and is among `Quantiles.fallbacks`.

    Attributes:
        forecast: an input and levels → quantiles of the close, (horizon, levels). Raises NoFitError.
    """

    name: str
    family: str
    licence: str
    recipe: dict[str, object]
    lookback: int | None
    forecast: Callable[[ForecastInput, Sequence[float]], np.ndarray]
    cutoff: date | None = NO_TRAINING
    one_thread: bool = True

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Quantiles:
        """Quantiles of the close, (inputs, horizon, 1, levels).

        Raises:
            CandlecastError: the closes of an input cannot be used.
        """
        forecasts, fallbacks = [], dict[int, str]()
        for place, one in enumerate(inputs):
            try:
                forecasts.append(self.forecast(one, levels))
            except NoFitError as reason:
                forecasts.append(fallback_quantiles(one, levels))
                fallbacks[place] = f"{reason}, so it is that of {FALLBACK}"
        return Quantiles(np.stack(forecasts)[:, :, None], fallbacks=fallbacks)


def log_closes(one: ForecastInput, least: int, newest: int | None = None, gaps: bool = False) -> np.ndarray:
    """The log closes of an input, (n,) float64, oldest first.

    Args:
        least: the least number of known closes.
        newest: bars to read at most; None: all.
        gaps: whether closes that are not known (NaN) are returned as such, except the newest.

    Raises:
        CandlecastError: a close is not known, infinite or not positive, or there are fewer than `least`.
    """
    closes = one.closes if newest is None else one.closes[-newest:]
    known = ~np.isnan(closes)
    usable = np.isfinite(closes) & (closes > 0)
    if gaps:
        usable[:-1] |= ~known[:-1]
    if not usable.all():
        first = int(np.flatnonzero(~usable)[0])
        raise CandlecastError(
            f"{one.symbol} from {one.origin}: the close of {one.stamps[-len(closes) :][first]} is {closes[first]}, and "
            f"{np.count_nonzero(~usable)} of the {len(closes)} closes are not finite and positive. Correct these bars, "
            "or exclude the symbol (market.symbols)"
        )
    if np.count_nonzero(known) < least:
        raise CandlecastError(
            f"{one.symbol} from {one.origin}: {np.count_nonzero(known)} closes, at least {least} are needed: ingest "
            "more history, raise windows.lookback_window, or exclude the symbol (market.symbols)"
        )
    return np.where(known, np.log(np.where(known, closes, 1.0)), np.nan)


def steps_of(one: ForecastInput) -> np.ndarray:
    """The numbers of the steps to forecast, (horizon,) float64: 1, 2, …"""
    return np.arange(1, len(one.targets) + 1, dtype=np.float64)


def normal_quantiles(mean: np.ndarray, deviation: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Prices whose logs have these means and standard deviations, (horizon,) each → (horizon, levels)."""
    from scipy.special import ndtri

    return np.asarray(np.exp(mean[:, None] + deviation[:, None] * ndtri(np.asarray(levels))))


def fallback_quantiles(one: ForecastInput, levels: Sequence[float]) -> np.ndarray:
    """The forecast of `FALLBACK`, (horizon, levels)."""
    closes, steps = log_closes(one, least=2), steps_of(one)
    mean, variance = random_walk_ewma(np.diff(closes), steps)
    return normal_quantiles(closes[-1] + mean, np.sqrt(variance), levels)


def versions(*packages: str) -> dict[str, object]:
    """The installed versions of packages, for a recipe."""
    return {package: version(package) for package in packages}


def require_package(model: str, package: str, extra: str) -> None:
    """Refuse a model whose package is not installed.

    Raises:
        CandlecastError: with the command that installs it.
    """
    try:
        version(package)
    except PackageNotFoundError:
        raise CandlecastError(
            f'{model} needs the package {package}, which is not installed: pip install "candlecast[{extra}]"'
        ) from None


def require_at_least(model: str, **options: tuple[int, int]) -> None:
    """Refuse options below their least value; each is (value, least).

    Raises:
        CandlecastError: with the option, its value and the least one.
    """
    for option, (value, least) in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise CandlecastError(
                f"{model}: the option {option} = {value!r} must be a whole number of at least {least}"
            )
