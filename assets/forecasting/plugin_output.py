"""What a plug-in returned, as the rows of a `Prediction`: shapes are checked, paths become quantiles, crossings are
sorted.

Values that are no possible price or size are refused with those of every model (assets.forecasts.forecast_store).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from assets.forecasting.forecaster import Prediction, path_quantiles
from assets.forecasting.plugin import ForecastInput, Paths, Quantiles
from assets.market.history import FIELDS
from resources.errors import CandlecastError

CLOSE_ALONE = ("close",)
# A forecast with more crossing pairs of neighbouring quantiles than this is refused; Chronos-2 has a few per cent.
MOST_CROSSING = 0.1
# Quantiles that differ by rounding do not cross.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Row:
    """The forecast of one input.

    Attributes:
        quantiles: (horizon, fields, levels) float64, increasing with the level.
        crossing: share of neighbouring quantiles that crossed.
        paths: (paths, horizon, 6) float32; None: no paths of bars.
        fallback: why it is the forecast of a simpler model; empty: it is not.
    """

    fields: tuple[str, ...]
    quantiles: np.ndarray
    crossing: float
    paths: np.ndarray | None = None
    fallback: str = ""

    @property
    def shape(self) -> str:
        """Its fields, and the shape of its paths."""
        paths = "" if self.paths is None else f" and paths {self.paths.shape}"
        return f"quantiles of {', '.join(self.fields)}{paths}"


def read_output(output: object, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> list[Row | str]:
    """One row per input, or why its forecast is refused.

    Raises:
        CandlecastError: the output as a whole has another type or shape than expected.
    """
    horizon = len(inputs[0].targets)
    if isinstance(output, Paths):
        values = _numbers(output.values)
        expected = (len(inputs), values.shape[1] if values.ndim > 1 else 0, horizon)
        _require_shape("Paths", values.shape, (expected, (*expected, len(FIELDS))))
        fields: tuple[str, ...] = FIELDS if values.ndim == 4 else CLOSE_ALONE
        bars = values if values.ndim == 4 else values[..., None]
        quantiles = path_quantiles(bars, levels) if output.quantiles is None else _numbers(output.quantiles)
        if output.quantiles is not None and values.ndim == 3:
            quantiles = quantiles[:, :, None]
        _require_shape("quantiles of Paths", quantiles.shape, ((len(inputs), horizon, len(fields), len(levels)),))
        paths = list(bars.astype(np.float32)) if values.ndim == 4 else [None] * len(inputs)
        rows = [_ordered(fields, row, levels, "") for row in quantiles]
        return [replace(row, paths=own) if isinstance(row, Row) else row for row, own in zip(rows, paths, strict=True)]
    if isinstance(output, Quantiles):
        fields, values = tuple(output.fields), _numbers(output.values)
        _require_fields(fields)
        _require_shape("Quantiles", values.shape, ((len(inputs), horizon, len(fields), len(levels)),))
        fallbacks = output.fallbacks
    else:
        fields, values = CLOSE_ALONE, _numbers(output)
        _require_shape("an array of quantiles", values.shape, ((len(inputs), horizon, len(levels)),))
        values, fallbacks = values[:, :, None], {}
    return [_ordered(fields, row, levels, fallbacks.get(place, "")) for place, row in enumerate(values)]


def stacked(rows: Sequence[Row | str], horizon: int, levels: int) -> Prediction:
    """The prediction of some rows. A row whose fields or number of paths are not those of the first fails."""
    first = next((row for row in rows if isinstance(row, Row)), None)
    fields = first.fields if first else CLOSE_ALONE
    quantiles = np.full((len(rows), horizon, len(fields), levels), np.nan)
    paths = None if first is None or first.paths is None else np.full((len(rows), *first.paths.shape), np.nan, "f4")
    crossing, failures = np.zeros(len(rows)), {}
    for place, row in enumerate(rows):
        if isinstance(row, str):
            failures[place] = row
        elif first and row.shape != first.shape:
            failures[place] = f"predict returned {row.shape}, for another input {first.shape}: return the same for all"
        else:
            quantiles[place], crossing[place] = row.quantiles, row.crossing
            if paths is not None:
                paths[place] = row.paths
    fallbacks = {place: row.fallback for place, row in enumerate(rows) if isinstance(row, Row) and row.fallback}
    return Prediction(fields, quantiles, crossing, paths, failures, fallbacks)


def _ordered(fields: tuple[str, ...], values: np.ndarray, levels: Sequence[float], fallback: str) -> Row | str:
    """The row with its quantiles sorted; the reason where too many of them cross."""
    with np.errstate(invalid="ignore"):
        crossing = np.diff(values, axis=-1) < -ROUNDING * np.abs(values[..., 1:])
    share = float(crossing.mean()) if crossing.size else 0.0
    if share > MOST_CROSSING:
        step, field, level = np.argwhere(crossing)[0]
        return (
            f"{share:.0%} of neighbouring quantiles cross, first {fields[field]} at step {step + 1} between the levels "
            f"{levels[level]:g} and {levels[level + 1]:g}; up to {MOST_CROSSING:.0%} are sorted"
        )
    return Row(fields, np.sort(values, axis=-1), share, fallback=fallback)


def _numbers(values: object) -> np.ndarray:
    try:
        numbers = np.asarray(values)
        if values is None or np.iscomplexobj(numbers):
            raise TypeError("no real numbers")
        return numbers.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise CandlecastError(
            f"predict returned {type(values).__name__}, which is no array of numbers ({error}): return Quantiles, "
            "Paths or an array (inputs, horizon, levels)"
        ) from None


def _require_shape(what: str, shape: tuple[int, ...], allowed: Sequence[tuple[int, ...]]) -> None:
    if shape not in allowed or 0 in shape:
        expected = " or ".join(map(str, allowed))
        raise CandlecastError(f"predict returned {what} of shape {shape}, expected {expected}")


def _require_fields(fields: tuple[str, ...]) -> None:
    if "close" not in fields or len(set(fields)) < len(fields) or not set(fields) <= set(FIELDS):
        raise CandlecastError(
            f"predict returned Quantiles of the fields {', '.join(fields)}: name close, and others of "
            f"{', '.join(FIELDS)}, each once"
        )
