"""A small home to forecast in: real bars of five symbols with their splits, and checkpoints of tiny random models."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.origins import origin_timestamps, select_tasks
from assets.market.history import FIELDS, BarHistory, read_histories
from assets.training.fit.base_weights import WEIGHTS
from resources.candlecast import Candlecast
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.profiles import load_settings
from resources.settings import Settings
from resources.warehouse import Warehouse

ACTIONS = pd.DataFrame(
    [
        ("AAPL", "2000-06-21", "split", 2.0, 0.5),
        ("AAPL", "2005-02-28", "split", 2.0, 0.5),
        ("MSFT", "2003-02-18", "split", 2.0, 0.5),
        ("IBM", "2012-05-08", "dividend", 0.85, 0.9958),
        ("AAPL", "2012-08-09", "dividend", 2.65, 0.9957),
        ("MSFT", "2012-08-14", "dividend", 0.2, 0.9934),
    ],
    columns=["symbol", "ex_date", "kind", "value", "price_factor"],
)
ARRIVED = pd.Timestamp("2013-03-02")
ENDS = date(2013, 3, 1)


@cache
def real_bars() -> pd.DataFrame:
    """The bars that come with bokeh-sampledata, as quoted."""
    package = find_spec("bokeh_sampledata")
    assert package and package.origin
    raw = pd.read_csv(Path(package.origin).parent / "_data" / "stocks.csv.gz", parse_dates=["Date"])
    bars = raw.rename(columns=str.lower).rename(columns={"ticker": "symbol", "date": "session"})
    bars["high"] = bars[["open", "high", "low", "close"]].max(axis=1)
    bars["low"] = bars[["open", "high", "low", "close"]].min(axis=1)
    bars["volume"] = bars["volume"].astype(np.float64)
    return bars.assign(ts=bars["session"], frequency="1d", amount=np.nan).drop(columns="adj close")


def store_bars(warehouse: Warehouse, bars: pd.DataFrame) -> None:
    """Insert valid bars, and the corporate actions, into a warehouse."""
    arrived = bars.assign(source="sample", payload_sha256="0" * 64, available_at=ARRIVED, batch=1)
    actions = ACTIONS.assign(
        ex_date=pd.to_datetime(ACTIONS["ex_date"]),
        origin="columns",
        source="sample",
        payload_sha256="0" * 64,
        available_at=ARRIVED,
    )
    with warehouse.write() as connection:
        connection.register("arrived", arrived)
        connection.register("actions", actions)
        connection.execute("INSERT INTO bars BY NAME SELECT *, []::VARCHAR[] AS flags FROM arrived")
        connection.execute("INSERT INTO corporate_actions BY NAME SELECT * FROM actions ON CONFLICT DO NOTHING")


@dataclass(frozen=True)
class ForecastHome:
    """A home folder, and shortcuts to its histories, origins and tasks."""

    candlecast: Candlecast

    @property
    def settings(self) -> Settings:
        return self.candlecast.settings

    @property
    def warehouse(self) -> Warehouse:
        return self.candlecast.warehouse

    @property
    def checkpoints(self) -> CheckpointStore:
        return self.candlecast.checkpoints

    def with_settings(self, **sections: dict[str, object]) -> ForecastHome:
        """The same home under other values of some settings, by section."""
        changed = {name: getattr(self.settings, name).model_copy(update=values) for name, values in sections.items()}
        return ForecastHome(Candlecast(self.settings.model_copy(update=changed)))

    def histories(self, last: date | None = None) -> dict[str, BarHistory]:
        return read_histories(self.warehouse, "1d", last=last)

    def origins(self, first: date, last: date) -> list[np.datetime64]:
        sessions = [session.date() for session in self.candlecast.calendar.sessions(first, last)]
        return origin_timestamps(sessions, self.settings, self.candlecast.calendar)

    def tasks(self, first: date, last: date) -> list[ForecastTask]:
        return select_tasks(self.histories(), self.origins(first, last), self.settings.windows.lookback_window).tasks


def open_home(folder: Path) -> ForecastHome:
    """The home in a folder, under the settings of the sample profile."""
    return ForecastHome(Candlecast(load_settings(Path(__file__).parents[2] / "candlecast.toml", "sample", folder)))


def create_home(folder: Path, bars: pd.DataFrame | None = None) -> ForecastHome:
    """A home with these bars in its warehouse; None: the real ones."""
    home = open_home(folder)
    store_bars(home.warehouse, real_bars() if bars is None else bars)
    return home


def read_paths(file: Path) -> dict[str, np.ndarray]:
    """The sample paths of each symbol: (paths, steps, 6) float32."""
    frame = pd.read_parquet(file)
    return {
        str(symbol): np.stack([path[list(FIELDS)].to_numpy() for _, path in own.groupby("path")])
        for symbol, own in frame.groupby("symbol")
    }


def publish_tiny_kronos(
    checkpoints: CheckpointStore,
    cutoff: str = "2010-12-31",
    seed: int = 0,
    scores_of: Callable[[Checkpoint], Mapping[str, object]] = lambda tokenizer: {},
) -> None:
    """Publish a Kronos of random weights and its tokenizer, and put them in use.

    Args:
        scores_of: the scores on the predictor's card, from its tokenizer.
    """
    import torch

    from kronos import Kronos, KronosConfig, KronosTokenizer, Normalisation, TokenizerConfig

    torch.manual_seed(seed)
    shape: dict[str, Any] = {"s1_bits": 4, "s2_bits": 4, "n_heads": 2, "d_model": 16, "ff_dim": 32}
    tokenizer = KronosTokenizer(config=TokenizerConfig(n_enc_layers=2, n_dec_layers=2, **shape))

    def fill_tokenizer(folder: Path) -> None:
        tokenizer.save_pretrained(folder, normalisation=Normalisation())

    def fill_predictor(folder: Path) -> None:
        model.save_pretrained(folder, normalisation=Normalisation())

    published = checkpoints.publish(
        "kronos_tokenizer",
        {"seed": seed},
        fill_tokenizer,
        {"cutoff": cutoff},
    )
    model = Kronos(config=KronosConfig(n_layers=2, **shape))
    predictor = checkpoints.publish(
        "kronos_predictor",
        {"seed": seed},
        fill_predictor,
        {"cutoff": cutoff, "tokenizer": published.digest, "scores": dict(scores_of(published))},
    )
    checkpoints.set_current("kronos_tokenizer", published.digest)
    checkpoints.set_current("kronos_predictor", predictor.digest)


def publish_tiny_chronos2(checkpoints: CheckpointStore, cutoff: str = "2010-12-31", seed: int = 0) -> None:
    """Publish a Chronos-2 of random weights, and put it in use."""
    import torch

    from assets.forecasting.chronos2.compact import new_chronos2
    from resources.settings import Chronos2Settings

    torch.manual_seed(seed)
    pipeline = new_chronos2(Chronos2Settings(d_model=16, d_ff=32, num_layers=1, num_heads=2), 10)
    published = checkpoints.publish("chronos2_model", {"seed": seed}, pipeline.save_pretrained, {"cutoff": cutoff})
    checkpoints.set_current("chronos2_model", published.digest)


def publish_packaged_volatility(checkpoints: CheckpointStore, cutoff: str = "2010-12-31") -> None:
    """Publish the packaged volatility model, and put it in use."""

    def copy(folder: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            shutil.copy(WEIGHTS / "volatility_model" / name, folder)

    published = checkpoints.publish("volatility_model", {"base": "packaged"}, copy, {"cutoff": cutoff})
    checkpoints.set_current("volatility_model", published.digest)
