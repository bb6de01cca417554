"""What the compact weights that are packaged with candlecast are trained with: settings, symbols, and bars of a file.

Not here: the training (compact). Benchmarks read this in every process, and need nothing that trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from assets.market.history import BarHistory
from resources.settings import (
    Chronos2Settings,
    ComputeSettings,
    PredictorSettings,
    Settings,
    TokenizerSettings,
    VolatilitySettings,
    WindowSettings,
)
from resources.settings_training import PACKAGED_INPUTS

HELD_OUT_FIRST, HELD_OUT_EVERY = 2, 5
NUMBERS = ["open", "high", "low", "close", "volume", "split", "adj_close"]
# Rows that are read at once: the memory is that of the result, and not several times as much.
ROWS_AT_ONCE = 100_000
WINDOWS = WindowSettings(
    lookback_window=90,
    predict_window=10,
    train=(date(1999, 11, 1), date(2009, 12, 31)),
    validation=(date(2010, 1, 1), date(2010, 12, 31)),
    test=(date(2011, 1, 1), date(2021, 4, 21)),
    short_history="exclude",
)
TOKENIZER = TokenizerSettings(
    s1_bits=8,
    s2_bits=8,
    group_size=8,
    epochs=10,
    steps_per_epoch=250,
    batch_size=32,
    learning_rate=2e-3,
    validation_windows=512,
    patience=None,
)
PREDICTOR = PredictorSettings(
    epochs=10,
    steps_per_epoch=250,
    batch_size=32,
    learning_rate=2e-3,
    validation_windows=512,
    patience=None,
)
CHRONOS2 = Chronos2Settings(steps=1800, d_ff=256, evaluate_every=300, **PACKAGED_INPUTS)


def compact_settings(home: Path, threads: int = 1) -> Settings:
    """The settings of the compact weights. One thread, so that sums are always computed in the same order."""
    return Settings(
        profile="compact",
        home=home,
        windows=WINDOWS,
        tokenizer=TOKENIZER,
        predictor=PREDICTOR,
        chronos2=CHRONOS2,
        volatility=VolatilitySettings(base="none"),
        compute=ComputeSettings(device="cpu", threads=threads),
    )


def read_parquet(file: Path) -> dict[str, BarHistory]:
    """The history of each symbol, with adjustment factors from the adjusted close and the split coefficients."""
    from pyarrow.parquet import ParquetFile

    parts: dict[str, list[pd.DataFrame]] = {}
    with ParquetFile(file) as opened:
        for batch in opened.iter_batches(ROWS_AT_ONCE, columns=["symbol", "date", *NUMBERS]):
            rows = batch.to_pandas()
            rows["date"] = pd.to_datetime(rows["date"])
            for symbol, own in rows.groupby("symbol"):
                parts.setdefault(str(symbol), []).append(own[["date", *NUMBERS]])
    return {symbol: _history(symbol, pd.concat(parts.pop(symbol))) for symbol in sorted(parts)}


def held_out_symbols(symbols: Sequence[str]) -> list[str]:
    """The symbols that the compact weights are not trained on."""
    return sorted(symbols)[HELD_OUT_FIRST::HELD_OUT_EVERY]


def seen_histories(data: Path) -> dict[str, BarHistory]:
    """The histories of the symbols that are not held out."""
    histories = read_parquet(data)
    unseen = set(held_out_symbols(list(histories)))
    return {name: history for name, history in histories.items() if name not in unseen}


def _history(symbol: str, rows: pd.DataFrame) -> BarHistory:
    rows = rows.sort_values("date", kind="stable")
    factor = (rows["adj_close"] / rows["close"]).to_numpy()
    quoted = rows[["open", "high", "low", "close", "volume"]].to_numpy(dtype=np.float64)
    return BarHistory(
        symbol,
        rows["date"].to_numpy().astype("datetime64[s]"),
        np.column_stack([quoted, np.full(len(rows), np.nan)]),
        factor / factor[0],
        rows["split"].cumprod().to_numpy(dtype=np.float64),
    )
