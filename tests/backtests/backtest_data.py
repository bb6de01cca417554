"""Test data: real bars of five symbols, their splits and dividends, and synthetic forecasts of several models."""

from __future__ import annotations

import importlib.util
from datetime import date
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd

from assets.backtests.prices import PricePanel
from assets.evaluation.origin_times import OriginTimes
from assets.evaluation.score_queries import paired_scores
from assets.evaluation.scoreboard import compute_scoreboard, scoreboard_horizons, write_scoreboard
from assets.evaluation.scoring import score_sessions
from assets.market.history import read_histories
from resources.calendar import TradingCalendar
from resources.layout import Home
from resources.profiles import load_settings
from resources.settings import Settings
from resources.warehouse import Warehouse

LEVELS = np.round(np.arange(1, 20) * 0.05, 2)
Z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
HORIZON = 10
SPLITS = [("AAPL", "2000-06-21", 2.0), ("AAPL", "2005-02-28", 2.0), ("MSFT", "2003-02-18", 2.0)]
DIVIDENDS = [
    ("IBM", "2012-05-08", 0.85, 0.9958),
    ("AAPL", "2012-08-09", 2.65, 0.9957),
    ("MSFT", "2012-08-14", 0.2, 0.9934),
]
FIRST, LAST = date(2012, 8, 1), date(2013, 2, 25)
STAMP = pd.Timestamp("2013-03-02")
SHIFTS = {"random_walk": 0.0, "random_walk_ewma": 0.0, "drift": 1.0, "momentum": 1.0, "kronos": 1.0, "chronos2": 1.0}
USED = {model: f"{model:_<16}"[:16] for model in SHIFTS}


def panel_of(sessions: np.ndarray, symbols: tuple[str, ...], opens: np.ndarray, closes: np.ndarray) -> PricePanel:
    """A price panel of these opens and closes, (sessions, symbols), that trades on every session with a bar."""
    high, low = np.maximum(opens, closes), np.minimum(opens, closes)
    volume, factor = np.where(np.isfinite(closes), 1e5, np.nan), np.ones(closes.shape)
    return PricePanel(sessions, symbols, symbols, opens, high, low, closes, volume, factor)


def settings_of(home: Home) -> Settings:
    """Settings of the sample profile with every session planned, because the synthetic forecasts start anywhere."""
    loaded = load_settings(home=home.root)
    return loaded.model_copy(update={"forecasts": loaded.forecasts.model_copy(update={"every": 1})})


def sample_bars() -> pd.DataFrame:
    spec = importlib.util.find_spec("bokeh_sampledata")
    assert spec and spec.origin
    raw = pd.read_csv(Path(spec.origin).parent / "_data" / "stocks.csv.gz")
    bars = raw.rename(columns=str.lower).rename(columns={"ticker": "symbol"})
    bars["session"] = pd.to_datetime(bars["date"])
    bars["ts"] = bars["session"]
    bars = bars[["symbol", "ts", "session", "open", "high", "low", "close", "volume"]].copy()
    bars["high"] = bars[["open", "high", "low", "close"]].max(axis=1)
    bars["low"] = bars[["open", "high", "low", "close"]].min(axis=1)
    return bars


def store_bars(warehouse: Warehouse, bars: pd.DataFrame) -> None:
    full = bars.assign(
        frequency="1d", amount=np.nan, source="sample", payload_sha256="0" * 64, available_at=STAMP, batch=1
    )
    full["volume"] = full["volume"].astype("float64")
    with warehouse.write() as connection:
        connection.register("made", full)
        connection.execute("INSERT INTO bars BY NAME SELECT *, []::VARCHAR[] AS flags FROM made")


def store_actions(warehouse: Warehouse) -> None:
    rows = [(s, d, "split", v, 1 / v) for s, d, v in SPLITS] + [(s, d, "dividend", v, f) for s, d, v, f in DIVIDENDS]
    made = pd.DataFrame(rows, columns=["symbol", "ex_date", "kind", "value", "price_factor"])
    made["ex_date"] = pd.to_datetime(made["ex_date"])
    made = made.assign(origin="columns", source="sample", payload_sha256="0" * 64, available_at=STAMP)
    with warehouse.write() as connection:
        connection.register("made", made)
        connection.execute("INSERT INTO corporate_actions BY NAME SELECT * FROM made")


def generate_forecasts(
    warehouse: Warehouse, first: date, last: date, every: int = 5, models: tuple[str, ...] = tuple(SHIFTS)
) -> pd.DataFrame:
    """Lognormal quantiles with a drift per model, at every origin after at least 90 bars."""
    calendar = TradingCalendar("XNYS")
    origins = calendar.sessions(first, last)[::every].to_numpy().astype("datetime64[s]")
    frames = []
    for symbol, history in read_histories(warehouse, "1d").items():
        for origin in origins:
            at = history.index_of(origin)
            if at is None or at < 90:
                continue
            closes = np.log(history.closes_as_of(at, at - 90))
            moves = np.diff(closes)
            sigma = moves.std()
            noise = np.random.default_rng([len(symbol), ord(symbol[0]), at])
            drifts = {
                "random_walk": 0.0,
                "random_walk_ewma": 0.0,
                "drift": moves.mean(),
                "momentum": moves[-20:].mean() / 2,
                "kronos": noise.normal(0, sigma / 6),
                "chronos2": -moves[-3:].mean() / 8,
            }
            targets = calendar.following(origin, HORIZON)
            for model in models:
                steps = np.arange(1, HORIZON + 1)
                spread = sigma * np.sqrt(steps)[:, None] * Z[None, :] * (0.8 if model == "kronos" else 1)
                values = np.exp(closes[-1] + drifts[model] * steps[:, None] + spread)
                frames.append(
                    pd.DataFrame(
                        {
                            "model": model,
                            "symbol": symbol,
                            "origin": origin,
                            "step": np.repeat(steps, len(LEVELS)),
                            "target_ts": np.repeat(targets, len(LEVELS)),
                            "level": np.tile(LEVELS, HORIZON),
                            "value": values.ravel(),
                        }
                    )
                )
    made = pd.concat(frames, ignore_index=True)
    made["checkpoint"] = made["model"].map(USED)
    return made.assign(field="close", made_at=STAMP, in_sample=False)


def store_forecasts(warehouse: Warehouse, made: pd.DataFrame) -> None:
    with warehouse.write() as connection:
        connection.register("made", made)
        connection.execute("INSERT INTO forecast_quantiles BY NAME SELECT * FROM made")
        connection.execute(
            "INSERT INTO forecasts BY NAME "
            "SELECT DISTINCT model, checkpoint, symbol, origin, made_at, in_sample, 0 AS corrected FROM made"
        )


def score_forecasts(warehouse: Warehouse, settings: Settings) -> None:
    """Score all forecasts and write the scoreboard."""
    histories = read_histories(warehouse, "1d")
    score_sessions(warehouse, histories, [FIRST, date(2013, 3, 1)])
    paired = paired_scores(warehouse, USED, scoreboard_horizons(settings.windows.predict_window))
    times = OriginTimes.of(np.sort(paired["origin"].unique()), settings, TradingCalendar("XNYS"))
    write_scoreboard(warehouse, compute_scoreboard(paired, settings.evaluation, times, settings.seed))


def small_warehouse(path: Path, first: date = FIRST) -> Warehouse:
    """A new warehouse with the sample bars and some months of forecasts."""
    warehouse = Warehouse(path)
    store_bars(warehouse, sample_bars())
    store_actions(warehouse)
    store_forecasts(warehouse, generate_forecasts(warehouse, first, LAST))
    return warehouse
