"""Quantile regression with gradient-boosted trees (LightGBM) on lagged returns and ranges.

One model per quantile level and symbol. Features at a bar, all scaled by its exponentially weighted volatility, so that
they are comparable in time: the last LAGS returns; sums of returns, mean high-low ranges and volatilities over WINDOWS;
the step. Target: the log return over that step, divided by volatility · √step. Crossing quantiles are sorted.

Walk-forward: the models are fitted again at the start of each calendar year, quarter or month (`refit`), on the newest
`rows` bars whose targets lie before it, and forecast from every origin of that period. A forecast depends on its own
input alone, so a symbol's models see that symbol's bars only: fitting one model to all symbols would make a forecast
depend on the other series of the run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from assets.forecasting.baselines.closed_form import DECAY
from assets.forecasting.models.series import (
    FALLBACK,
    FittedForecaster,
    NoFitError,
    log_closes,
    require_at_least,
    steps_of,
    versions,
)
from assets.forecasting.plugin import ForecastInput
from assets.forecasting.recursion import first_order
from assets.market.history import HIGH, LOW
from resources.errors import CandlecastError
from resources.settings import Settings

if TYPE_CHECKING:
    from lightgbm import Booster

Refit = Literal["year", "quarter", "month"]
VERSION = 1
ROWS, LEAST_ROWS = 1_250, 250
LAGS, WINDOWS = 5, (5, 21, 63)
# Bars before the first row: the weights of the volatility have decayed to 2e-7.
BURN_IN = 252
STEPS_FITTED = 4
TREES = 60
PARAMETERS: dict[str, Any] = {
    "objective": "quantile",
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    # The same trees whatever the machine, the number of threads and the run.
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "seed": 7,
    "verbosity": -1,
}
# Prices of two origins are adjusted by different factors and differ in their last bits: rounded, their features agree,
# and origins of one period share their models.
DECIMALS = 7
MODELS_KEPT = 512


def lightgbm(settings: Settings, *, refit: Refit = "year", rows: int = ROWS) -> FittedForecaster:
    """LightGBM quantile regression.

    Args:
        refit: the calendar period at whose start the models are fitted again.
        rows: bars that they are fitted to, at most.

    Raises:
        CandlecastError: an option is out of range.
    """
    require_at_least("lightgbm", rows=(rows, LEAST_ROWS))
    if refit not in get_args(Refit):
        raise CandlecastError(f"lightgbm: the option refit = {refit!r} must be one of {', '.join(get_args(Refit))}")
    recipe = {
        "version": VERSION,
        "refit": refit,
        "rows": rows,
        "trees": TREES,
        **{name: value for name, value in PARAMETERS.items() if name != "verbosity"},
        "fallback": FALLBACK,
        **versions("lightgbm"),
    }
    forecast = _Forecast(refit, rows)
    return FittedForecaster("lightgbm", "gradient boosting", "MIT", recipe, None, forecast)


class _Forecast:
    """Quantiles of one input, with the models of a symbol and period kept for the next origin."""

    def __init__(self, refit: Refit, rows: int) -> None:
        self.refit, self.rows = refit, rows
        self.models: OrderedDict[bytes, list[Booster]] = OrderedDict()

    def __call__(self, one: ForecastInput, levels: Sequence[float]) -> np.ndarray:
        start = period_start(one.origin, self.refit)
        before = int(np.searchsorted(one.stamps, start))
        # Read no bar that the rows do not need: a history of minutes is long.
        first = max(0, before - self.rows - len(one.targets) - BURN_IN - max(WINDOWS))
        closes = log_closes(one, least=2)[first:]
        steps = steps_of(one)
        if before - first < BURN_IN + LEAST_ROWS + len(steps):
            raise NoFitError(f"fewer than {BURN_IN + LEAST_ROWS + len(steps)} bars before {start}")
        features, volatility = bar_features(closes, one.bars[first:])
        if volatility[-1] == 0:
            raise NoFitError("the price never moves")
        fitted = self._fitted(*_training_rows(features, volatility, closes, before - first, steps), levels)
        inputs = np.column_stack([np.tile(features[-1], (len(steps), 1)), steps])
        scaled = np.sort(np.column_stack([model.predict(inputs) for model in fitted]), axis=1)
        return np.asarray(np.exp(closes[-1] + scaled * (volatility[-1] * np.sqrt(steps))[:, None]))

    def _fitted(self, features: np.ndarray, targets: np.ndarray, levels: Sequence[float]) -> list[Booster]:
        """The model of each level, fitted to (n, features) and (n,), or kept from an equal fit."""
        features, targets = features[-self.rows * STEPS_FITTED :], targets[-self.rows * STEPS_FITTED :]
        key = blake2b(features.tobytes() + targets.tobytes() + repr(tuple(levels)).encode()).digest()
        if key not in self.models:
            self.models[key] = [_fit(features, targets, level) for level in levels]
        self.models.move_to_end(key)
        if len(self.models) > MODELS_KEPT:
            self.models.popitem(last=False)
        return self.models[key]


def period_start(origin: np.datetime64, refit: Refit) -> np.datetime64:
    """The first moment of the origin's calendar year, quarter or month, UTC."""
    month = origin.astype("datetime64[M]")
    if refit == "quarter":
        month -= month.astype(int) % 3
    return np.datetime64(origin.astype("datetime64[Y]") if refit == "year" else month, "s")


def bar_features(closes: np.ndarray, bars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of each bar, (n, features), and its volatility per bar, (n,). NaN where bars are missing.

    Args:
        closes: (n,) log closes.
        bars: (n, 6), of which high and low are read.
    """
    returns = np.diff(closes, prepend=closes[0])
    volatility = np.sqrt(_ewma(returns**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        ranges = np.log(bars[:, HIGH] / bars[:, LOW])
        scale = np.where(volatility > 0, volatility, np.nan)
        columns = [_lagged(returns, lag) for lag in range(LAGS)]
        for window in WINDOWS:
            columns += [
                _mean(returns, window) * np.sqrt(window),
                _mean(ranges, window),
                np.sqrt(np.maximum(_mean(returns**2, window), 0)),
            ]
        columns.append(ranges)
        features = np.column_stack(columns) / scale[:, None]
    return np.round(features, DECIMALS), volatility


def _training_rows(
    features: np.ndarray, volatility: np.ndarray, closes: np.ndarray, end: int, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose targets are bars before `end`: (n, features and step) and (n,) scaled returns, ordered by bar."""
    rows, targets, order = [], [], []
    for step in np.unique(np.geomspace(1, len(steps), STEPS_FITTED).round().astype(int)):
        bars = np.arange(BURN_IN, end - step)
        bars = bars[volatility[bars] > 0]
        rows.append(np.column_stack([features[bars], np.full(len(bars), float(step))]))
        targets.append((closes[bars + step] - closes[bars]) / (volatility[bars] * np.sqrt(step)))
        order.append(bars)
    by_bar = np.argsort(np.concatenate(order), kind="stable")
    return np.concatenate(rows)[by_bar], np.round(np.concatenate(targets), DECIMALS)[by_bar]


def _fit(features: np.ndarray, targets: np.ndarray, level: float) -> Booster:
    import lightgbm as lgb

    return lgb.train({**PARAMETERS, "alpha": level}, lgb.Dataset(features, targets), num_boost_round=TREES)


def _ewma(values: np.ndarray) -> np.ndarray:
    """The exponentially weighted mean up to each value, (n,), its weights summing to 1."""
    return np.asarray(first_order(values, DECAY) / first_order(np.ones(len(values)), DECAY))


def _lagged(values: np.ndarray, lag: int) -> np.ndarray:
    return np.concatenate([np.full(lag, np.nan), values[: len(values) - lag]])


def _mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the last `window` values, (n,); NaN where one of them is, or there are fewer."""
    means = np.full(len(values), np.nan)
    if len(values) >= window:
        means[window - 1 :] = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)
    return means
