"""Charts of the assets' pages as data: a run stores what a chart's function takes, the webserver calls it.

The data are JSON: values, and names of the tables below. Not here: the functions (`plots` of each stage), and the files
(picture_files).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from importlib import import_module
from typing import Any, ParamSpec

import numpy as np
import pandas as pd

from resources.errors import CandlecastError

P = ParamSpec("P")

# Raise it when a function draws the same data in another way: charts get new names, and are drawn again.
VERSION = 2
# Functions may be renamed. The names of charts, and of the functions' arguments, are in the homes.
CHARTS = {
    "actions": "assets.market.plots:actions_picture",
    "bars_coverage": "assets.market.plots:coverage_picture",
    "before_after": "assets.forecasting.plots:before_after_chart",
    "calibration": "assets.forecasting.plots:calibration_chart",
    "counts": "assets.market.plots:counts_picture",
    "drift": "assets.forecasting.drift:drift_chart",
    "expected_returns": "assets.backtests.plots:signals_plot",
    "fans": "assets.forecasting.plots:fan_chart",
    "payloads": "assets.market.plots:payloads_picture",
    "pit": "assets.evaluation.plots:pit_chart",
    "provider": "assets.backtests.plots:provider_plot",
    "reliability": "assets.evaluation.risk.plots:reliability_chart",
    "risk_exceptions": "assets.evaluation.risk.plots:exceptions_chart",
    "risk_newest": "assets.evaluation.risk.plots:newest_chart",
    "skill": "assets.evaluation.plots:skill_chart",
    "steps": "assets.evaluation.plots:step_chart",
    "windows": "assets.training.plots:windows_plot",
}
# Dataclasses among the arguments.
RECORDS = {"fan": "assets.forecasting.plots:Fan"}


class ChartError(CandlecastError):
    """Data of a chart that this version cannot draw."""


def chart_data(draw: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs) -> bytes:
    """The call of a chart's function, as JSON; equal arguments give equal bytes.

    Raises:
        TypeError: the function is not in CHARTS, or an argument has a type that is not stored.
    """
    arguments = inspect.signature(draw).bind(*args, **kwargs).arguments
    content = {
        "version": VERSION,
        "chart": _name(CHARTS, draw),
        "arguments": {name: _encoded(value) for name, value in arguments.items()},
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def draw_chart(data: bytes) -> bytes:
    """The chart of `chart_data` as PNG.

    Raises:
        ChartError: the data are of another version of candlecast, or their function refuses them.
    """
    content = json.loads(data)
    try:
        draw = _named(CHARTS, content["chart"])
        arguments = {name: _decoded(value) for name, value in content["arguments"].items()}
        png: bytes = draw(**arguments)
    # Whatever a plotting library raises: the reason is for the reader of the page.
    except Exception as error:
        raise ChartError(f"chart {content.get('chart')!r}: {type(error).__name__}: {error}") from error
    return png


def _encoded(value: object) -> Any:
    """A value as JSON: what JSON has no type for is an object with one key, the type. pd.NA is null."""
    if value is None or value is pd.NA:
        return None
    if type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_encoded(one) for one in value]
    for tag, (kind, encode, _) in _TYPES.items():
        if isinstance(value, kind):
            return {tag: encode(value)}
    if dataclasses.is_dataclass(value):
        fields = {field.name: _encoded(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"record": [_name(RECORDS, type(value)), fields]}
    raise TypeError(f"a chart's data have no {type(value).__name__}: {value!r:.80}")


def _decoded(stored: Any) -> Any:
    """The value of `_encoded`. Infinite numbers are missing ones: axes that contain them have no limits."""
    if isinstance(stored, list):
        return [_decoded(one) for one in stored]
    if isinstance(stored, float) and math.isinf(stored):
        return math.nan
    if not isinstance(stored, dict):
        return stored
    ((tag, content),) = stored.items()
    if tag == "record":
        name, fields = content
        return _named(RECORDS, name)(**{field: _decoded(value) for field, value in fields.items()})
    return _TYPES[tag][2](content)


def _array(value: Any) -> list[Any]:
    """Dtype, shape and values of an array or a NumPy scalar; times as integers of their unit, objects one by one."""
    array = np.asarray(value)
    if array.dtype.kind == "O":
        values = [_encoded(one) for one in array.ravel()]
    else:
        values = array.view(np.int64).ravel().tolist() if array.dtype.kind in "mM" else array.ravel().tolist()
    return [array.dtype.str, list(array.shape), values]


def _as_array(stored: list[Any]) -> Any:
    dtype, shape, values = np.dtype(stored[0]), stored[1], stored[2]
    if dtype.kind == "O":
        array = np.empty(len(values), dtype=object)
        array[:] = [_decoded(one) for one in values]
    else:
        array = np.array(values, dtype=np.int64).view(dtype) if dtype.kind in "mM" else np.array(values, dtype=dtype)
        if dtype.kind == "f":
            array[np.isinf(array)] = np.nan
    return array.reshape(shape)[()]


def _frame(frame: pd.DataFrame) -> list[Any]:
    """Index, labels of the columns, and each column."""
    return [
        _array(frame.index.to_numpy()),
        _array(frame.columns.to_numpy()),
        [_array(_values(frame.iloc[:, place])) for place in range(frame.shape[1])],
    ]


def _values(column: pd.Series) -> np.ndarray:
    """The values of a column; of nullable numbers among which some are missing, these as NaN."""
    if pd.api.types.is_numeric_dtype(column.dtype) and column.hasnans:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.to_numpy()


def _as_frame(stored: list[Any]) -> pd.DataFrame:
    index, labels, columns = stored
    frame = pd.DataFrame(dict(enumerate(map(_as_array, columns))), index=_as_array(index))
    return frame.set_axis(_as_array(labels), axis="columns")


# By tag: what it stands for, and the functions that encode and decode it. The first type that fits.
_TYPES: dict[str, tuple[type | tuple[type, ...], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "array": ((np.ndarray, np.generic), _array, _as_array),
    "frame": (pd.DataFrame, _frame, _as_frame),
    "series": (
        pd.Series,
        lambda series: [_array(series.index.to_numpy()), _array(_values(series))],
        lambda stored: pd.Series(_as_array(stored[1]), index=_as_array(stored[0])),
    ),
    "time": (datetime, lambda time: time.isoformat(), pd.Timestamp),
    "date": (date, lambda day: day.isoformat(), date.fromisoformat),
    "tuple": (tuple, lambda values: [_encoded(one) for one in values], lambda stored: tuple(map(_decoded, stored))),
    "mapping": (
        Mapping,
        lambda values: [[_encoded(key), _encoded(value)] for key, value in values.items()],
        lambda stored: {_decoded(key): _decoded(value) for key, value in stored},
    ),
}


def _name(table: Mapping[str, str], named: Any) -> str:
    place = f"{named.__module__}:{named.__qualname__}"
    for name, listed in table.items():
        if listed == place:
            return name
    raise TypeError(f"{place} is not in the tables of {__name__}")


def _named(table: Mapping[str, str], name: str) -> Any:
    if name not in table:
        raise ChartError(f"unknown name {name!r}")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)
