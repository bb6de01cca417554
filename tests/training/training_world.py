"""A small world to train in: the real bars of the sample in a warehouse of their own, and settings for a short fit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import bokeh_sampledata
import pandas as pd

from assets.market.history import History, read_histories
from assets.training.worker import worker as fit
from assets.training.worker.job import JobKind, TrainingJob
from resources.layout import Home
from resources.settings import (
    Chronos2Settings,
    ComputeSettings,
    PredictorSettings,
    Settings,
    TokenizerSettings,
    WindowSettings,
)
from resources.warehouse import Warehouse

CUTOFF = date(2003, 12, 31)
WINDOWS = WindowSettings(
    lookback_window=32,
    predict_window=5,
    train=(date(2000, 3, 1), date(2002, 12, 31)),
    validation=(date(2003, 1, 1), CUTOFF),
    test=(date(2004, 1, 1), date(2005, 12, 31)),
)
TOKENIZER = TokenizerSettings(
    d_model=16,
    n_heads=2,
    ff_dim=32,
    n_enc_layers=2,
    n_dec_layers=2,
    s1_bits=4,
    s2_bits=4,
    group_size=4,
    epochs=2,
    steps_per_epoch=6,
    batch_size=16,
    validation_windows=32,
    max_reconstruction=2.0,
)
PREDICTOR = PredictorSettings(
    d_model=16,
    n_heads=2,
    ff_dim=32,
    n_layers=2,
    epochs=2,
    steps_per_epoch=6,
    batch_size=16,
    validation_windows=32,
    select_origins=0,
)
FIT_COMPUTE = ComputeSettings(device="cpu", threads=1, save_every=4)
CHRONOS = Chronos2Settings(
    steps=8, batch_size=8, context_length=32, d_model=16, d_ff=32, num_layers=1, num_heads=2, evaluate_every=4
)


def sample_frame(symbols: Sequence[str] = ("AAPL", "IBM")) -> pd.DataFrame:
    """The raw rows of some symbols, oldest first."""
    file = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"
    rows = pd.read_csv(file, parse_dates=["Date"])
    return rows[rows["Ticker"].isin(symbols)].sort_values(["Ticker", "Date"], ignore_index=True)


def fill(warehouse: Warehouse, rows: pd.DataFrame) -> None:
    """Put raw rows into the warehouse as bars."""
    bars = pd.DataFrame(
        {
            "symbol": rows["Ticker"],
            "ts": rows["Date"],
            "session": rows["Date"].dt.date,
            "frequency": "1d",
            "open": rows["Open"].astype(float),
            "high": rows["High"].astype(float),
            "low": rows["Low"].astype(float),
            "close": rows["Close"].astype(float),
            "volume": rows["Volume"].astype(float),
        }
    )
    with warehouse.write() as connection:
        connection.register("incoming", bars)
        connection.execute(
            "INSERT INTO bars BY NAME SELECT *, []::VARCHAR[] AS flags, 'test' AS source, 'test' AS payload_sha256, "
            "TIMESTAMP '2020-01-01' AS available_at, 0 AS batch FROM incoming"
        )


def world(folder: Path, rows: pd.DataFrame | None = None) -> tuple[Home, Warehouse]:
    """A home with a filled warehouse."""
    home = Home(folder)
    warehouse = Warehouse(home.warehouse)
    fill(warehouse, sample_frame() if rows is None else rows)
    return home, warehouse


def histories(warehouse: Warehouse) -> dict[str, History]:
    """What the warehouse holds."""
    return read_histories(warehouse, "1d")


def small_settings(home: Home, **changes: Any) -> Settings:
    """Settings for fits of seconds; `changes` replaces whole sections or single keys of the top."""
    values: dict[str, Any] = {
        "home": home.root,
        "windows": WINDOWS,
        "tokenizer": TOKENIZER,
        "predictor": PREDICTOR,
        "chronos2": CHRONOS,
        "compute": ComputeSettings(device="cpu", threads=1, save_every=4),
    }
    return Settings(**{**values, **changes})


def job(kind: JobKind, arrays: Path, folder: Path, **changes: Any) -> TrainingJob:
    """A job on some arrays, that works in `folder`."""
    values: dict[str, Any] = {
        "kind": kind,
        "seed": 7,
        "windows": WINDOWS,
        "tokenizer_settings": TOKENIZER,
        "predictor_settings": PREDICTOR,
        "chronos2_settings": CHRONOS,
        "compute": FIT_COMPUTE,
        "arrays": arrays,
        "work": folder / "work",
        "out": folder / "out",
    }
    values |= changes
    if "base" in changes:
        # As a job's settings name the base that the job was given.
        section = {"kronos_tokenizer": "tokenizer_settings", "kronos_predictor": "predictor_settings"}.get(
            kind, "chronos2_settings"
        )
        values[section] = values[section].model_copy(update={"base": changes["base"]})
    return TrainingJob(**values)


def finished(wanted: TrainingJob) -> Path:
    """The model folder of a job, run in this process."""
    wanted.out.mkdir(parents=True, exist_ok=True)
    fit.run(wanted)
    return wanted.out / "model"


def weights(folder: Path) -> dict[str, Any]:
    """The tensors of a model folder."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    """Whether two model folders hold the same tensors, bit for bit."""
    import torch

    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
