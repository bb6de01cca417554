"""A home with the real bars of the sample, and settings and jobs for a training run of seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import bokeh_sampledata
import pandas as pd

from assets.market.history import BarHistory, read_histories
from assets.training.worker import worker
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


def sample_rows(symbols: Sequence[str] = ("AAPL", "IBM")) -> pd.DataFrame:
    """The raw sample rows of some symbols, oldest first."""
    file = Path(bokeh_sampledata.__file__).parent / "_data" / "stocks.csv.gz"
    rows = pd.read_csv(file, parse_dates=["Date"])
    return rows[rows["Ticker"].isin(symbols)].sort_values(["Ticker", "Date"], ignore_index=True)


def insert_bars(warehouse: Warehouse, rows: pd.DataFrame) -> None:
    """Insert raw rows into the warehouse as bars."""
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
            "INSERT INTO bars BY NAME SELECT *, []::VARCHAR[] AS flags, 'sample' AS source, 'test' AS payload_sha256, "
            "TIMESTAMP '2020-01-01' AS available_at, 0 AS batch FROM incoming"
        )


def filled_home(folder: Path, rows: pd.DataFrame | None = None) -> tuple[Home, Warehouse]:
    """A home whose warehouse holds the sample bars of two symbols, or other rows."""
    home = Home(folder)
    warehouse = Warehouse(home.warehouse)
    insert_bars(warehouse, sample_rows() if rows is None else rows)
    return home, warehouse


def all_histories(warehouse: Warehouse) -> dict[str, BarHistory]:
    """The histories of all symbols of a warehouse."""
    return read_histories(warehouse, "1d")


def small_settings(home: Home, **changes: Any) -> Settings:
    """Settings for training runs of seconds; `changes` replaces sections or top-level keys."""
    values: dict[str, Any] = {
        "home": home.root,
        "windows": WINDOWS,
        "tokenizer": TOKENIZER,
        "predictor": PREDICTOR,
        "chronos2": CHRONOS,
        "compute": ComputeSettings(device="cpu", threads=1, save_every=4),
    }
    return Settings(**{**values, **changes})


def training_job(kind: JobKind, arrays: Path, folder: Path, **changes: Any) -> TrainingJob:
    """A job on training arrays, with its work and output under `folder`.

    Args:
        changes: fields of the job, the seed, or a section of its settings as `<section>_settings`.
    """
    sections: dict[str, Any] = {
        "windows": WINDOWS,
        "tokenizer": TOKENIZER,
        "predictor": PREDICTOR,
        "chronos2": CHRONOS,
        "compute": FIT_COMPUTE,
        "seed": changes.pop("seed", 7),
    }
    named = [key for key in changes if key.endswith("_settings")]
    sections |= {key.removesuffix("_settings"): changes.pop(key) for key in named}
    if "base" in changes:
        # The base is also in the section of the settings.
        own = {"kronos_tokenizer": "tokenizer", "kronos_predictor": "predictor"}.get(kind, "chronos2")
        # A copy, which is not validated: some bases are of another shape.
        sections[own] = sections[own].model_copy(update={"base": changes["base"]})
    settings = Settings(**sections)
    return TrainingJob(kind=kind, settings=settings, arrays=arrays, work=folder / "work", out=folder / "out", **changes)


def run_here(job: TrainingJob) -> Path:
    """Run a job in this process and return its model folder."""
    job.out.mkdir(parents=True, exist_ok=True)
    worker.run(job)
    return job.out / "model"


def trained(kind: JobKind, arrays: Path, folder: Path, **changes: Any) -> Path:
    """The model folder of `training_job` with these arguments, run in this process."""
    return run_here(training_job(kind, arrays, folder, **changes))


def read_weights(folder: Path) -> dict[str, Any]:
    """The tensors of a model folder, by name."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    """Whether two model folders hold identical tensors."""
    import torch

    ours, theirs = read_weights(one), read_weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
