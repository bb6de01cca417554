"""What the volatility model reads of a panel: ranges, returns and volume of a symbol and of its market.

All variances are logs relative to the level, the log of the symbol's EWMA variance at the origin, so that one set of
weights fits calm and nervous symbols. Every value at a bar is made of that bar and earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from assets.forecasting.recursion import first_order
from assets.forecasting.volatility.panel import Panel

DECAY, YEAR, QUARTER, MONTH = 0.94, 252, 66, 22
# Bars without any movement have no log: floors, as shares of the EWMA variance.
RANGE_FLOOR, RETURN_FLOOR = 0.02, 0.1
# Variance of a bar below which nothing is known to have moved.
SMALLEST = 1e-14
LIMIT = 8.0
# Spread of standardised returns over the symbols of a market, the geometric mean over US stocks up to 2010. A market of
# one symbol has none: at 0 its CRPS skill was -0.2 %, at this 1.0 % (22 held-out symbols, 2004-2010).
TYPICAL_SPREAD = 0.75
# Half-open spans of lags in bars, whose mean is one input.
RANGE_SPANS = (*((lag, lag + 1) for lag in range(10)), (10, 15), (15, 22), (22, 44), (44, 66), (66, 132), (132, 264))
RETURN_SPANS = (*((lag, lag + 1) for lag in range(5)), (5, 10), (10, 22), (22, 66), (66, 264))
GAP_SPANS = ((0, 1), (1, 2), (2, 5), (5, 22))
SHORT_SPANS = (*((lag, lag + 1) for lag in range(5)), (5, 10), (10, 22))
MARKET_SPANS = (*SHORT_SPANS, (22, 66))
DISPERSION_SPANS = ((0, 1), (1, 6), (5, 22))
NOW = ((0, 1),)
# Lags at which a report of one, two, three, four or eight quarters ago shows again, narrow and wide.
REPORT_LAGS = ((62, 66), (60, 69), (125, 129), (122, 132), (187, 192), (185, 195), (250, 253), (248, 256), (502, 506))
REPORT_PRODUCTS = ((0, 6), (2, 6), (1, 7, 3), (5, 7), (1, 3))
REPORT_RECENT = 45
# Bars that the inputs of one origin are made of: the longest lag, and the warm-up of the averages within it.
BARS_READ = 800


@dataclass(frozen=True)
class Inputs:
    """The inputs at some bars of a panel.

    Attributes:
        level: (bars, symbols) log EWMA variance of the log return; NaN: the symbol has no bar there, or too few.
        own: (bars, symbols, inputs) the inputs that do not depend on the step, finite.
        reports: (bars, symbols, steps, inputs) the inputs that do, from what happened quarters before each step.
    """

    level: np.ndarray
    own: np.ndarray
    reports: np.ndarray


class Running:
    """A series of a panel, (bars, symbols), whose means over any span of lags are read off running sums."""

    def __init__(self, series: np.ndarray) -> None:
        known = np.isfinite(series)
        self.series = series
        self._sums = np.cumsum(np.where(known, series, 0.0), axis=0)
        self._counts = np.cumsum(known, axis=0, dtype=np.float64)

    def mean(self, first: int, end: int, at: np.ndarray) -> np.ndarray:
        """Mean of the values that there are, `first` … `end` - 1 bars before the bars `at`; NaN: there is none."""
        newest, oldest = at - first, at - end
        sums, counts = (
            np.where((newest >= 0)[:, None], part[np.maximum(newest, 0)], 0.0)
            - np.where((oldest >= 0)[:, None], part[np.maximum(oldest, 0)], 0.0)
            for part in (self._sums, self._counts)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(counts > 0, sums / counts, np.nan))

    def rolling(self, bars: int) -> np.ndarray:
        """The mean of the last `bars` values, at every bar."""
        return self.mean(0, bars, np.arange(len(self.series)))


class Features(Protocol):
    """What a regression of log variances is fitted to, of one panel.

    Attributes:
        level: (bars, symbols) log variance that inputs and target are relative to; NaN: it is not known.
        day: (bars, symbols) log variance of each bar: the target.
    """

    level: np.ndarray
    day: np.ndarray

    def inputs(self, at: np.ndarray, steps: int) -> Inputs:
        """The inputs at some bars of the panel."""
        ...

    def calendar(self, origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The inputs that follow from the dates, as `calendar_inputs`."""
        ...


class PanelFeatures:
    """The series of a panel that the inputs are read off, computed once for all origins."""

    def __init__(self, panel: Panel) -> None:
        self.level = np.log(np.maximum(ewma(panel.returns**2), SMALLEST))
        scale = np.exp(self.level)
        standardised = np.clip(panel.returns / np.sqrt(scale), -6, 6)
        slow = np.log(np.maximum(Running(panel.returns**2).rolling(YEAR), SMALLEST))
        log_range = np.log(panel.ranges + RANGE_FLOOR * scale)
        day = np.log(panel.gaps**2 + panel.ranges + RANGE_FLOOR * scale)
        volume = _carried(panel.volume)
        relative_volume = volume - Running(volume).rolling(QUARTER)
        index, market_return = _across(panel.returns), _across(standardised)
        index_level = np.log(np.maximum(ewma(index**2), SMALLEST))
        index_year = np.log(np.maximum(Running(index**2).rolling(YEAR), SMALLEST))
        index_week = np.log(Running(index**2).rolling(5) + RANGE_FLOOR * np.exp(index_level))
        index_day = np.log(index**2 + RETURN_FLOOR * np.exp(index_level))
        trend = Running(panel.trend)
        self._relative = [
            (Running(log_range), RANGE_SPANS),
            (Running(np.log(panel.returns**2 + RETURN_FLOOR * scale)), RETURN_SPANS),
            (Running(np.log(panel.gaps**2 + RETURN_FLOOR * scale)), GAP_SPANS),
            (Running(slow), NOW),
            (Running(index_level), NOW),
        ]
        self._absolute = [
            (Running(standardised), SHORT_SPANS),
            (Running(np.minimum(standardised, 0)), SHORT_SPANS),
            (Running(relative_volume), SHORT_SPANS),
            (Running(_across(log_range - slow)), MARKET_SPANS),
            (Running(market_return), SHORT_SPANS),
            (Running(np.minimum(market_return, 0)), SHORT_SPANS),
            (Running(_across(self.level - slow)), NOW),
            (Running(index_level - index_year), NOW),
            (Running(index_week - index_level), NOW),
            (Running(Running(index_day).rolling(MONTH) - index_level), NOW),
            (Running(np.log(_spread(standardised) + 0.2)), DISPERSION_SPANS),
            (Running(panel.trend - trend.rolling(YEAR)), NOW),
            (Running(panel.trend - trend.rolling(QUARTER)), NOW),
            (Running(np.minimum(panel.trend - trend.rolling(MONTH), 0)), NOW),
        ]
        moved = day - Running(day).rolling(QUARTER)
        moved, traded = moved - _across(moved), relative_volume - _across(relative_volume)
        self._strength = np.nan_to_num(np.clip(moved, 0, 3) * np.clip(traded + 0.1, 0, 1.5))
        # Log variance of each bar: what the regression explains.
        self.day = day

    def inputs(self, at: np.ndarray, steps: int) -> Inputs:
        """The inputs at the bars `at`, for 1 … `steps` steps ahead."""
        level = self.level[at]
        own = [series.mean(*span, at) - level for series, spans in self._relative for span in spans]
        own += [series.mean(*span, at) for series, spans in self._absolute for span in spans]
        bounded = [np.broadcast_to(np.clip(np.nan_to_num(one), -LIMIT, LIMIT), level.shape) for one in own]
        return Inputs(level, np.stack(bounded, axis=-1), self._reports(at, steps))

    def calendar(self, origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """As `calendar_inputs`."""
        return calendar_inputs(origins, targets)

    def _reports(self, at: np.ndarray, steps: int) -> np.ndarray:
        """Days that moved and traded more than the market did, quarters before each step.

        Companies report every quarter, on about the same day. A step beyond the shortest lag reads what the last step
        within it reads.
        """
        recent = _largest(self._strength, 0, REPORT_RECENT, at)
        result = []
        for step in range(1, steps + 1):
            ahead = min(step, REPORT_LAGS[1][0] - 1)
            found = [_largest(self._strength, first - ahead, end - ahead, at) for first, end in REPORT_LAGS]
            found += [np.prod([found[one] for one in product], axis=0) for product in REPORT_PRODUCTS]
            found.append(np.sqrt(found[6] * found[8]))
            result.append(np.stack([*found, *(one * recent for one in found)], axis=-1))
        return np.stack(result, axis=2)


def ewma(squares: np.ndarray) -> np.ndarray:
    """Exponentially weighted mean over the last year, λ = .94, of the values that there are; (bars, symbols)."""
    known = np.isfinite(squares)
    sums = [first_order(part, DECAY) for part in (np.where(known, squares, 0.0), known.astype(float))]
    for part in sums:
        part[YEAR:] -= DECAY**YEAR * part[:-YEAR].copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, sums[0] / sums[1], np.nan))


def calendar_inputs(origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of each step's date: weekday, days since the bar before, turn of the month, season of reports; 0 or 1.

    Args:
        origins: (tasks,) datetime64. targets: (tasks, steps) datetime64.

    Returns:
        (tasks, steps, inputs) float64.
    """
    days = targets.astype("datetime64[D]")
    before = np.concatenate([origins.astype("datetime64[D]")[:, None], days[:, :-1]], axis=1)
    waited = (days - before).astype(int)
    weekday = (days.astype(int) + 3) % 7
    month = days.astype("datetime64[M]")
    date, number = (days - month.astype("datetime64[D]")).astype(int) + 1, month.astype(int) % 12
    return np.stack(
        [
            *(weekday == one for one in range(1, 5)),
            waited == 2,
            waited == 3,
            waited > 3,
            (number == 11) & (date >= 24),
            date <= 3,
            date >= 28,
            (number % 3 == 0) & (date >= 15),
            (number % 3 == 1) & (date <= 12),
        ],
        axis=-1,
    ).astype(np.float64)


def _largest(series: np.ndarray, first: int, end: int, at: np.ndarray) -> np.ndarray:
    """The largest of the values `first` … `end` - 1 bars ago, 0 before the first bar."""
    result = np.zeros((len(at), series.shape[1]))
    for lag in range(first, end):
        rows = at - lag
        result = np.maximum(result, np.where((rows >= 0)[:, None], series[np.maximum(rows, 0)], 0.0))
    return result


def _across(series: np.ndarray) -> np.ndarray:
    """The mean over the symbols that have a value, at each bar: (bars, 1); 0 where none has."""
    known = np.isfinite(series)
    return np.asarray(np.where(known, series, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1))[:, None]


def _spread(series: np.ndarray) -> np.ndarray:
    """The standard deviation over the symbols that have a value, at each bar: (bars, 1); a typical one for a single."""
    count = np.isfinite(series).sum(axis=1)[:, None]
    sample = np.sqrt(_across((series - _across(series)) ** 2) * count / np.maximum(count - 1, 1))
    return np.asarray(np.where(count > 1, sample, TYPICAL_SPREAD))


def _carried(series: np.ndarray) -> np.ndarray:
    """The last known value where there is none; NaN before the first."""
    rows = np.where(np.isfinite(series), np.arange(len(series))[:, None], 0)
    newest = np.maximum.accumulate(rows, axis=0)
    return np.asarray(np.take_along_axis(series, newest, axis=0))
