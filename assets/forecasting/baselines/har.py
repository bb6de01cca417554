"""The baseline har: a regression of log variances on daily, weekly and monthly means of themselves.

After Corsi (2009, Journal of Financial Econometrics 7). The variance of a bar is that of its range (Parkinson, 1980)
and of the gap before it. Inputs, each as the mean of the last bar, of 5 and of 22: log variance, log squared return of
the close, the negative part of the standardised return (leverage: Corsi and Renò, 2012), and the market's log range
against its own year; and the log variance of the last year. Levels are relative to the symbol's EWMA variance, so one
set of weights serves all symbols, and those without training bars. The regression, and the empirical symmetric shape
about the last close, are those of `volatility.regression`, without what the volatility model reads besides.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np

from assets.forecasting.cross_section import mean_by_timestamp
from assets.forecasting.volatility.features import (
    LIMIT,
    MONTH,
    RANGE_FLOOR,
    RETURN_FLOOR,
    SMALLEST,
    YEAR,
    Inputs,
    Running,
    ewma,
)
from assets.forecasting.volatility.panel import PARKINSON, Panel, panel_up_to
from assets.forecasting.volatility.regression import MOST_BARS, MOST_CELLS, TooFewOriginsError, VolatilityWeights, fit
from assets.market.history import HIGH, LOW, BarHistory
from resources.publish import digest_of

logger = logging.getLogger("candlecast.baselines")
SPANS = ((0, 1), (0, 5), (0, MONTH))
# Of numbers that are stored: the same on every processor.
DECIMALS = 8


@dataclass(frozen=True)
class MarketRanges:
    """The mean log variance of the range of all symbols whose price moved within the bar, by timestamp.

    It is known with its bar, and does not depend on the origin: factors of adjustment cancel in the range.
    """

    stamps: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, stamps: np.ndarray, high: np.ndarray, low: np.ndarray) -> MarketRanges:
        """The market of the bars of all symbols, (n,) each, in any order."""
        return cls(*mean_by_timestamp(*_log_variances(stamps, high, low)))

    @classmethod
    def of_histories(cls, histories: Sequence[BarHistory]) -> MarketRanges:
        """The market of some histories."""
        # Symbol by symbol: all bars of an index are not copied.
        parts = [_log_variances(one.stamps, one.quoted[:, HIGH], one.quoted[:, LOW]) for one in histories]
        return cls(*mean_by_timestamp(*(np.concatenate(part) for part in zip(*parts, strict=True))))

    def inputs(self, stamps: np.ndarray) -> np.ndarray:
        """The means over SPANS against that of the year, as of (n,) timestamps: (n, SPANS); 0 before the first."""
        at = np.searchsorted(self.stamps, stamps.astype(self.stamps.dtype), side="right") - 1
        if not len(self.stamps):
            return np.zeros((len(stamps), len(SPANS)))
        year = self._running.mean(0, YEAR, at)
        relative = np.concatenate([self._running.mean(*span, at) - year for span in SPANS], axis=1)
        return np.asarray(np.nan_to_num(relative))

    @cached_property
    def _running(self) -> Running:
        return Running(self.values[:, None])

    def digest(self, last: np.datetime64) -> str:
        """A digest of the market up to a timestamp."""
        known = self.stamps <= last
        return digest_of([self.stamps[known].astype(np.int64).tolist(), self.values[known].tolist()])


def _log_variances(stamps: np.ndarray, high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Timestamps and log variances of the ranges of the bars that moved."""
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(np.log(high / low) ** 2 * PARKINSON)
    moved = np.isfinite(values)
    return stamps[moved], values[moved]


class HarFeatures:
    """The inputs of the regression, of one panel and the market, as `volatility.features.Features`."""

    def __init__(self, panel: Panel, market: MarketRanges) -> None:
        self.level = np.log(np.maximum(ewma(panel.returns**2), SMALLEST))
        scale = np.exp(self.level)
        # Log variance of each bar: what the regression explains.
        self.day = np.log(panel.gaps**2 + panel.ranges + RANGE_FLOOR * scale)
        self._relative = [Running(self.day), Running(np.log(panel.returns**2 + RETURN_FLOOR * scale))]
        self._leverage = Running(np.clip(panel.returns / np.sqrt(scale), -6, 0))
        self._squares = Running(panel.returns**2)
        self._market, self._stamps = market, panel.stamps

    def inputs(self, at: np.ndarray, steps: int) -> Inputs:
        """The inputs at the bars `at`: the same for all steps."""
        level = self.level[at]
        own = [series.mean(*span, at) - level for series in self._relative for span in SPANS]
        own += [self._leverage.mean(*span, at) for span in SPANS]
        own.append(np.log(np.maximum(self._squares.mean(0, YEAR, at), SMALLEST)) - level)
        own += [np.broadcast_to(one[:, None], level.shape) for one in self._market.inputs(self._stamps[at]).T]
        bounded = np.stack([np.clip(np.nan_to_num(one), -LIMIT, LIMIT) for one in own], axis=-1)
        return Inputs(level, bounded, np.empty((*level.shape, steps, 0)))

    def calendar(self, origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """No input is from the calendar."""
        return np.empty((*targets.shape, 0))


def fit_har(
    histories: Sequence[BarHistory], market: MarketRanges, train: tuple[date, date], steps: int
) -> VolatilityWeights | None:
    """The weights of the training range; None: no symbol has an origin to learn from.

    Args:
        histories: bars up to the end of the range.
    """
    panel = panel_up_to(histories, bars=min(MOST_BARS, MOST_CELLS // max(len(histories), 1)))
    try:
        found = fit(panel, np.datetime64(train[0]), np.datetime64(train[1]), steps, HarFeatures(panel, market))
    except TooFewOriginsError as reason:
        logger.info("har: %s", reason)
        return None
    return VolatilityWeights(np.round(found.weights, DECIMALS), np.round(found.shape, DECIMALS))


def har_quantiles(
    weights: VolatilityWeights,
    market: MarketRanges,
    history: BarHistory,
    at: np.ndarray,
    steps: int,
    levels: Sequence[float],
) -> np.ndarray:
    """Quantiles of the log return from the bars `at` of a history: (len(at), steps, levels).

    Nothing after a bar changes its forecast: the series of the history are running sums from its first bar on.
    """
    features = HarFeatures(panel_up_to([history], history.stamps[at.max()]), market)
    found = features.inputs(at, steps)
    own = np.concatenate([found.own[:, 0], np.ones((len(at), 1))], axis=1)
    design = np.broadcast_to(own[:, None], (len(at), steps, own.shape[1]))
    return weights.quantiles(weights.deviations(design, found.level[:, 0]), levels)
