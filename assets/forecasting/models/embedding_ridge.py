"""A ridge on embeddings: volatility and drift of the next bars as linear functions of a model's hidden state.

The worked use of embeddings, as the forecaster of a [models.NAME]; docs/how-to/embeddings.md has settings and score. It
is fitted per symbol on past windows of the symbol's own input, so that a forecast remains a function of its input
alone: a fit over all symbols would have to be stored beside the bars, and a forecast would depend on when it was made.
For an origin in year Y the windows are those whose targets were complete before Y began: it is refitted yearly.

An embedding has no scale, as bars are normalised by their window. So the ridge predicts what has none either:

- the logarithm of the ratio of the volatility over the horizon to that of the window,
- the return over the horizon in units of the window's volatility.

The shape of the distribution is that of the past windows' returns, standardised by predictions of a ridge without the
window in question (leave-one-out). Both penalties are the ones with the smallest leave-one-out error; a large one
leaves the mean of the past.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from assets.forecasting.embedders import Embed, Embedder, embedder
from assets.forecasting.plugin import ForecastInput
from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError
from resources.settings import Settings

if TYPE_CHECKING:
    from kronos.inference.hidden_states import Pooling

VERSION = 1
# With fewer windows than this the volatility of the window is forecast, with the quantiles of a normal distribution.
MIN_WINDOWS = 40
PENALTIES = 10.0 ** np.arange(-1, 7)
# Volatility per bar below which a window is a suspended symbol's.
LEAST = 1e-6
# One per symbol and year in use.
FITS_KEPT = 512


def embedding_ridge(
    settings: Settings,
    checkpoints: Mapping[str, CheckpointStore],
    source: str = "kronos",
    windows: int = 250,
    pooling: Pooling = "last",
) -> EmbeddingRidge:
    """The forecaster.

    Args:
        checkpoints: the store by model, of those in `reads`.
        source: the model whose embeddings are used, "kronos" or "chronos2".
        windows: past windows of a fit at most, one per horizon: the newest ones.
        pooling: "last" or "mean", as `embeddings.pooling`.

    Raises:
        CandlecastError: the model has no checkpoint yet, or an option is impossible.
    """
    if pooling not in ("last", "mean"):
        raise CandlecastError(f'pooling = {pooling!r} is neither "last" nor "mean"')
    if not isinstance(windows, int) or windows < MIN_WINDOWS:
        raise CandlecastError(f"windows = {windows!r} must be an integer of {MIN_WINDOWS} or more")
    if source not in checkpoints:
        named = ", ".join(f'"{one}"' for one in checkpoints)
        raise CandlecastError(
            f"options.source = {source!r}, and reads = [{named}]: the source must be among the models that it reads"
        )
    found = embedder(source, settings, checkpoints[source], pooling)
    return EmbeddingRidge(found, settings.windows.predict_window, windows)


@dataclass(frozen=True)
class Fit:
    """A ridge of both targets, and the quantiles of its standardised returns.

    Attributes:
        centre, scale: (d,) of the features.
        weights: (d, 2); the targets are log volatility ratio and standardised return.
        means: (2,) of the targets.
        shape: (levels,) quantiles of standardised returns.
    """

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    shape: np.ndarray

    def predict(self, vector: np.ndarray) -> tuple[float, float]:
        """Log volatility ratio and standardised return of one embedding (d,)."""
        ratio, drift = self.means + ((vector - self.centre) / self.scale) @ self.weights
        return float(ratio), float(drift)


class EmbeddingRidge:
    """The forecaster, see the module.

    Args:
        source: the model whose embeddings are used.
        horizon: bars of a target, and between two windows of the fit.
        most: windows of a fit at most, the newest ones.
    """

    family = "linear model on embeddings"

    def __init__(self, source: Embedder, horizon: int, most: int) -> None:
        self.licence = source.licence
        self.cutoff = None if source.trained_until == date.max else source.trained_until
        self.recipe: dict[str, object] = {"version": VERSION, "embeddings": source.checkpoint}
        self._load, self._window, self._horizon = source.load, source.bars, horizon
        self.lookback: int | None = None
        self._most = most
        self._fits: OrderedDict[bytes, Fit | None] = OrderedDict()

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> np.ndarray:
        """Quantiles of the close: (inputs, horizon, levels)."""
        embed = self._load()
        newest = embed(
            [one.bars[-self._window :] for one in inputs], [one.stamps[-self._window :] for one in inputs]
        ).astype(np.float64)
        return np.stack(
            [self._quantiles(one, vector, levels, embed) for one, vector in zip(inputs, newest, strict=True)]
        )

    def _quantiles(self, one: ForecastInput, vector: np.ndarray, levels: Sequence[float], embed: Embed) -> np.ndarray:
        fit = self._fit(one, levels, embed)
        ratio, drift = fit.predict(vector) if fit else (0.0, 0.0)
        shape = fit.shape if fit else ndtri(np.asarray(levels))
        steps, horizon = np.arange(1, len(one.targets) + 1)[:, None], self._horizon
        volatility = _volatility(np.log(one.closes[-self._window :]))
        centre = drift * volatility * np.sqrt(horizon) * steps / horizon
        logs = centre + np.exp(ratio) * volatility * np.sqrt(steps) * shape
        return np.asarray(one.closes[-1] * np.exp(logs))

    def _fit(self, one: ForecastInput, levels: Sequence[float], embed: Embed) -> Fit | None:
        """The fit on the windows whose targets ended before the origin's year; None: there are too few."""
        before = int(np.searchsorted(one.stamps, one.origin.astype("datetime64[Y]").astype(one.stamps.dtype)))
        ends = np.arange(before - 1 - self._horizon, self._window - 2, -self._horizon)[: self._most][::-1]
        if len(ends) < MIN_WINDOWS:
            return None
        rows = slice(int(ends[0]) - self._window + 1, int(ends[-1]) + self._horizon + 1)
        # The origins of a year share their fit, unless an action in between changed the prices of its bars.
        parts = (one.bars[rows].tobytes(), one.stamps[rows].tobytes(), np.asarray(levels).tobytes())
        key = hashlib.blake2b(b"|".join(parts), digest_size=16).digest()
        if key not in self._fits:
            self._fits[key] = self._fitted(one, ends, levels, embed)
        self._fits.move_to_end(key)
        if len(self._fits) > FITS_KEPT:
            self._fits.popitem(last=False)
        return self._fits[key]

    def _fitted(self, one: ForecastInput, ends: np.ndarray, levels: Sequence[float], embed: Embed) -> Fit | None:
        logs, horizon = np.log(one.closes), self._horizon
        window = [logs[end - self._window + 1 : end + 1] for end in ends]
        ahead = np.stack([logs[end : end + horizon + 1] for end in ends])
        volatility = np.array([_volatility(own) for own in window])
        realised = np.array([_volatility(own) for own in ahead])
        moved = (volatility > LEAST) & (realised > LEAST)
        if moved.sum() < MIN_WINDOWS:
            return None
        spans = [slice(end - self._window + 1, end + 1) for end in ends[moved]]
        features = embed([one.bars[span] for span in spans], [one.stamps[span] for span in spans]).astype(np.float64)
        volatility, ahead = volatility[moved], ahead[moved]
        returns = ahead[:, 1:] - ahead[:, :1]
        targets = np.column_stack(
            [np.log(realised[moved] / volatility), returns[:, -1] / (volatility * np.sqrt(horizon))]
        )
        centre, scale = features.mean(axis=0), features.std(axis=0)
        scale[scale == 0] = 1.0
        weights, means, left_out = ridge(features - centre, scale, targets)
        ratio, drift = left_out.T[..., None]
        steps = np.arange(1, horizon + 1)
        mean = drift * volatility[:, None] * np.sqrt(horizon) * steps / horizon
        standardised = (returns - mean) / (np.exp(ratio) * volatility[:, None] * np.sqrt(steps))
        return Fit(centre, scale, weights, means, np.quantile(standardised, levels, method="median_unbiased"))


def ridge(centred: np.ndarray, scale: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ridge regressions of some targets, each with the penalty of the smallest leave-one-out error.

    Args:
        centred: (n, d) features without their means.
        scale: (d,) by which they are divided.
        targets: (n, k).

    Returns:
        Weights (d, k) of scaled features, means (k,) of the targets, and predictions (n, k) of each row by a ridge that
        was fitted without it, in closed form (Golub, Heath and Wahba, 1979).
    """
    u, s, vt = np.linalg.svd(centred / scale, full_matrices=False)
    means = targets.mean(axis=0)
    deviations = targets - means
    weights, left_out = np.empty((centred.shape[1], targets.shape[1])), np.empty_like(targets)
    for column in range(targets.shape[1]):
        least = np.inf
        for penalty in PENALTIES * len(targets):
            shrunk = s**2 / (s**2 + penalty)
            leverage = (u**2) @ shrunk + 1 / len(targets)
            error = (deviations[:, column] - (u * shrunk) @ (u.T @ deviations[:, column])) / (1 - leverage)
            if (loss := float(error @ error)) < least:
                least = loss
                weights[:, column] = vt.T @ (shrunk / np.maximum(s, 1e-12) * (u.T @ deviations[:, column]))
                left_out[:, column] = targets[:, column] - error
    return weights, means, left_out


def _volatility(logs: np.ndarray) -> float:
    """Root mean square of the log returns of log closes."""
    returns = np.diff(logs)
    return float(np.sqrt(np.mean(returns**2))) if len(returns) else 0.0
