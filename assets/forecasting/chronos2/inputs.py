"""The input of Chronos-2: target and covariate rows of one series, from bars up to the origin and what is known beyond.

Rows are in chronos' order: targets, covariates that are known up to the origin, covariates that are known over the
horizon. Nothing after the origin is read but the last kind, and the timestamps. Used by forecasts and by the fit. Not
here: forward passes (batches), and the groups of symbols (groups).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from assets.forecasting.calendar_covariates import calendar_covariate
from assets.forecasting.chronos2.input_settings import event_columns
from assets.forecasting.chronos2.standardised import (
    ANCHORS,
    ROWS,
    TARGET,
    anchored,
    market_row,
    mirrored_bars,
    origin_scale,
    standardised_outcome,
)
from assets.forecasting.cross_section import MarketReturns
from assets.forecasting.known_events import EventTable, read_events
from assets.market.history import CLOSE, HIGH, LOW, VOLUME
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import CALENDAR_COVARIATES, Settings

# chronos smooths the mean target of a category with one observation of the mean target of the series.
SMOOTHING = 1.0
# Rows that change sign where prices are reflected.
SIGNED = frozenset({"close", "log_return", "market_return"})


@dataclass(frozen=True)
class Chronos2Inputs:
    """The rows that the settings name, in an order that does not depend on the order there.

    Attributes:
        targets: names of the targets; `past` and `future`: names of the covariates.
        events: the table of known events; None: no covariate is from it.
        market: None: market_return is not a covariate.
    """

    targets: tuple[str, ...]
    past: tuple[str, ...]
    future: tuple[str, ...]
    calendar: TradingCalendar
    events: EventTable | None = None
    market: MarketReturns | None = None

    @classmethod
    def of(cls, settings: Settings, market: Callable[[], MarketReturns]) -> Chronos2Inputs:
        """The input under some settings; `market` is called if it is needed.

        Raises:
            CandlecastError: the table of known events cannot be used.
        """
        chosen = settings.chronos2
        columns = event_columns(settings)
        return cls(
            tuple(sorted(chosen.targets)),
            tuple(sorted(chosen.past_covariates)),
            tuple(sorted(chosen.future_covariates)),
            TradingCalendar(settings.market.calendar, settings.market.frequency),
            read_events(settings, columns) if columns else None,
            market() if "market_return" in chosen.past_covariates else None,
        )

    def rows(
        self, symbol: str, stamps: np.ndarray, bars: np.ndarray, targets: np.ndarray, first: int = 0
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The rows of one series: context (rows, n - first) and future (rows, steps) float32; None: nothing is known.

        Args:
            stamps: (n,) up to the origin.
            bars: (n, 6), adjusted as of the origin.
            targets: (steps,) timestamps after it.
            first: bars that are read for returns alone.

        Raises:
            CandlecastError: a price is not finite and positive, a row has no value, or what must be known over the
                horizon is not.
        """
        known = self._origin_rows(symbol, stamps, bars, first)
        if not self.future:
            return known, None
        split = len(stamps) - first
        later = self._known_rows(symbol, np.concatenate([stamps[first:], targets]), known)
        unknown = np.full((len(known), len(targets)), np.nan, dtype=np.float32)
        return np.concatenate([known, later[:, :split]]), np.concatenate([unknown, later[:, split:]])

    @property
    def standardised(self) -> bool:
        """Whether the target is standardised_close, whose rows depend on the origin."""
        return TARGET in self.targets

    def scale(self, bars: np.ndarray) -> float:
        """The volatility per bar that the target's quantiles are multiples of; NaN: they are no multiples."""
        return origin_scale(bars) if self.standardised else np.nan

    def training_rows(self, symbol: str, stamps: np.ndarray, bars: np.ndarray, origin: int) -> np.ndarray:
        """The rows of a series that holds its horizon: (rows, n) float32.

        Args:
            bars: (n, 6), adjusted as of one bar.
            origin: bars whose targets categories are encoded by; the others are the horizon.

        Raises:
            CandlecastError: as for `rows`.
        """
        known = self._bar_rows(symbol, stamps, bars)
        return np.concatenate([known, self._known_rows(symbol, stamps, known[:, :origin])])

    def window_rows(
        self, symbol: str, stamps: np.ndarray, bars: np.ndarray, origin: int, mirror: bool = False
    ) -> np.ndarray:
        """The rows of a training window of standardised_close: (rows, n) float32, the outcome in the target's horizon.

        Args:
            bars: (n, 6), adjusted as of the origin, of which `origin` are known.
            mirror: whether falls are rises; not with covariates that are known over the horizon.

        Raises:
            CandlecastError: as for `rows`.
        """
        inputs = self
        if mirror:
            market = self.market and replace(self.market, returns=-self.market.returns)
            inputs, bars = replace(self, market=market), mirrored_bars(bars)
        context, future = inputs.rows(symbol, stamps[:origin], bars[:origin], stamps[origin:])
        if future is None:
            future = np.full((len(context), len(stamps) - origin), np.nan, dtype=np.float32)
        closes, scale = bars[origin - 1 :, CLOSE], origin_scale(bars[:origin])
        future[0] = standardised_outcome(closes[0], closes[1:], scale)
        return np.concatenate([context, future], axis=1)

    def mirrored(self, rows: np.ndarray) -> np.ndarray | None:
        """The same rows with falls for rises; None: an effect of what is known over the horizon has a direction."""
        if self.future:
            return None
        signs = [-1 if name in SIGNED else 1 for name in (*self.targets, *self.past)]
        return rows * np.array(signs, dtype=np.float32)[:, None]

    def data_version(self, last: np.datetime64) -> list[str]:
        """Digests of what is read beside a symbol's own bars, up to a timestamp."""
        market = [self.market.digest(last)] if self.market else []
        return [*market, *([self.events.digest()] if self.events else [])]

    def _origin_rows(self, symbol: str, stamps: np.ndarray, bars: np.ndarray, first: int) -> np.ndarray:
        if not self.standardised:
            return self._bar_rows(symbol, stamps, bars)[:, first:]
        stamps, bars = stamps[first:], bars[first:]
        where = _place(symbol, stamps)
        _require_closes(where, bars)
        if len(bars) < 2 * ANCHORS:
            raise CandlecastError(f"{where}: the target {TARGET} needs {2 * ANCHORS}: raise windows.lookback_window")
        scale = origin_scale(bars)
        rows = [
            market_row(self._bar_row(name, stamps, bars)) if name == "market_return" else ROWS[name](bars, scale)
            for name in (*self.targets, *self.past)
        ]
        return anchored(np.stack(rows)).astype(np.float32)

    def _bar_rows(self, symbol: str, stamps: np.ndarray, bars: np.ndarray) -> np.ndarray:
        names = (*self.targets, *self.past)
        where = _place(symbol, stamps)
        _require_closes(where, bars)
        rows = np.stack([self._bar_row(name, stamps, bars) for name in names])
        for name, row in zip(names, rows, strict=True):
            if np.isinf(row).any():
                raise CandlecastError(
                    f"{where}: {name} is infinite at {stamps[np.isinf(row)][0]}. See the asset checks on bars, or "
                    f"leave {name} out of chronos2.targets and chronos2.past_covariates"
                )
            if not np.isfinite(row).any():
                raise CandlecastError(
                    f"{where}: {name} has no value: leave it out of chronos2.targets and chronos2.past_covariates, or "
                    "the symbol out of market.symbols"
                )
        return rows.astype(np.float32)

    def _bar_row(self, name: str, stamps: np.ndarray, bars: np.ndarray) -> np.ndarray:
        if name == "market_return":
            assert self.market is not None
            return self.market.at(stamps)
        return BAR_ROWS[name](bars)

    def _known_rows(self, symbol: str, stamps: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The covariates that are known over the horizon, at the bars of `known` and at those after them."""
        rows = [self._known_row(name, symbol, stamps, known) for name in self.future]
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(stamps))

    def _known_row(self, name: str, symbol: str, stamps: np.ndarray, known: np.ndarray) -> np.ndarray:
        bars, where = known.shape[1], _place(symbol, stamps[: known.shape[1]])
        if name in CALENDAR_COVARIATES:
            values = calendar_covariate(name, self.calendar, stamps)
        else:
            assert self.events is not None
            days = self.calendar.sessions_of(stamps)
            values = self.events.values(name, symbol, days)
            if self.events.last_day(symbol) < days[-1].item():
                raise CandlecastError(
                    f"{where}: {self.events.name} ends on {self.events.last_day(symbol)}, before the last bar that is "
                    f"forecast, {days[-1]}: add rows of {name} up to that day, or remove {name} from "
                    "chronos2.future_covariates"
                )
            if name not in self.events.numeric:
                values = encode_category(values, len(self.events.categories[name]), known[: len(self.targets)])
        absent = ~np.isfinite(values[bars:])
        if absent.any() or not np.isfinite(values[:bars]).any():
            at = f"at {stamps[bars:][absent][0]}, which is forecast" if absent.any() else "up to the origin"
            raise CandlecastError(
                f"{where}: {name} has no value {at}: add a row per day to chronos2.events (0 where nothing happens), "
                f"or remove {name} from chronos2.future_covariates"
            )
        return values


def _require_closes(where: str, bars: np.ndarray) -> None:
    closes = bars[:, CLOSE]
    if not (np.isfinite(closes) & (closes > 0)).all():
        raise CandlecastError(
            f"{where}: Chronos-2 needs finite positive closes, and one is not. See the asset checks on bars"
        )


def _place(symbol: str, stamps: np.ndarray) -> str:
    return f"{symbol}, {len(stamps)} bars up to {stamps[-1]}"


def encode_category(codes: np.ndarray, categories: int, targets: np.ndarray) -> np.ndarray:
    """Numbers of categories as the numbers that Chronos-2 reads: (n,) float64.

    As chronos does: of a single target, the smoothed mean of the target over a category's bars; of several, the
    category's own number, which here does not depend on the other series.

    Args:
        codes: (n,) of bars and then of the horizon.
        targets: (targets, bars) float32.
    """
    if len(targets) > 1:
        return codes.astype(np.float64)
    target, own = targets[0], codes[: targets.shape[1]]
    seen = np.isfinite(target)
    sums = np.bincount(own[seen], weights=target[seen], minlength=categories)
    counts = np.bincount(own[seen], minlength=categories)
    mean = sums.sum() / max(counts.sum(), 1)
    encoded: np.ndarray = ((SMOOTHING * mean + sums) / (SMOOTHING + counts))[codes]
    return encoded


def _log_returns(bars: np.ndarray) -> np.ndarray:
    logs = np.log(bars[:, CLOSE])
    return np.diff(logs, prepend=np.nan)


def _log_range(bars: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(bars[:, HIGH] / bars[:, LOW]))


# What a row holds, of bars (n, 6) adjusted as of the origin: (n,) float64, NaN where unknown.
BAR_ROWS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "close": lambda bars: np.asarray(np.log(bars[:, CLOSE])),
    "log_return": _log_returns,
    "range": _log_range,
    "volume": lambda bars: np.asarray(np.log1p(bars[:, VOLUME])),
}
