"""Rows of a query as an array whose axes are numbered by registered tables: a tenth of what a frame of them costs."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pandas as pd


def register_places(connection: duckdb.DuckDBPyConnection, name: str, values: pd.DataFrame) -> None:
    """Register a table of these values with their numbers from 0 on, as the column `place`."""
    connection.register(name, values.assign(place=np.arange(len(values))))


def placed(places: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values at their places in an array of this shape, counted along its last axis first; NaN, NaT or False elsewhere.

    Args:
        places: (n,)
        values: (n,) of numbers, datetime64 or bool; masked ones are missing.
    """
    missing: Any = {"f": np.nan, "M": np.datetime64("NaT"), "b": False}[values.dtype.kind]
    found = np.full(int(np.prod(shape)), missing, dtype=values.dtype)
    found[places] = np.ma.filled(values, missing)
    return found.reshape(shape)
