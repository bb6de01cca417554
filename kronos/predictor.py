"""KronosPredictor: forecasts as its users ask for them, from frames or from arrays."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kronos.calendar import future_timestamps
from kronos.errors import InputError
from kronos.features import FEATURES, time_features
from kronos.inference.pipeline import PathSampler
from kronos.inference.sampling import Sampling
from kronos.path_forecast import PathResult
from kronos.validation import (
    History,
    check_history,
    check_horizon,
    check_paths,
    check_same_length,
    check_seeds,
    check_whole,
    frame_stamps,
    frame_values,
)

Stamps = pd.Series | pd.DatetimeIndex | Sequence[Any]


class KronosPredictor(PathSampler):
    """Forecasts from pandas frames; `sample_paths`, inherited, takes arrays. Constructed as PathSampler is."""

    def predict(
        self,
        df: pd.DataFrame,
        x_timestamp: Stamps | None = None,
        y_timestamp: Stamps | None = None,
        pred_len: int | None = None,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 0.9,
        sample_count: int = 1,
        verbose: bool = False,
        *,
        seed: int | None = None,
        calendar: str | None = None,
        project: bool = True,
    ) -> pd.DataFrame:
        """Mean path of one series: a frame of the six fields, indexed by the forecast's stamps.

        `df` holds open, high, low, close and, if known, volume and amount. `x_timestamp` defaults to the
        frame's index and `y_timestamp` to the next `pred_len` bars of `calendar` (an exchange_calendars
        name) or of the history's own spacing, see `kronos.calendar.future_timestamps`. Stamps without a zone
        are the exchange's wall clock; a `y_timestamp` in another zone than the history's is converted to that one.
        `project` false gives the authors' raw mean, in which volumes may be negative, and takes histories that no
        market can print, such as prices below 0, as the authors do.
        `verbose` is accepted for compatibility.
        """
        return self.predict_batch(
            [df], None if x_timestamp is None else [x_timestamp], None if y_timestamp is None else [y_timestamp],
            pred_len, T, top_k, top_p, sample_count, verbose, seed=seed, calendar=calendar, project=project,
        )[0]  # fmt: skip

    def predict_batch(
        self,
        df_list: Sequence[pd.DataFrame],
        x_timestamp_list: Sequence[Stamps] | None = None,
        y_timestamp_list: Sequence[Stamps] | None = None,
        pred_len: int | None = None,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 0.9,
        sample_count: int = 1,
        verbose: bool = False,
        *,
        seed: int | Sequence[int] | None = None,
        calendar: str | None = None,
        project: bool = True,
    ) -> list[pd.DataFrame]:
        """Mean paths of several series, which may differ in length. Arguments as for `predict`."""
        result = self.forecast(
            list(df_list), x_timestamp_list, y_timestamp_list, pred_len, T, top_k, top_p, sample_count,
            seed=seed, calendar=calendar, project=project,
        )  # fmt: skip
        return [
            pd.DataFrame(mean, columns=list(FEATURES), index=stamps)
            for mean, stamps in zip(result.mean(), result.index, strict=True)
        ]

    def predict_paths(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Any = None,
        y_timestamp_list: Any = None,
        pred_len: int | None = None,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 1.0,
        sample_count: int = 30,
        *,
        seed: int | Sequence[int] | None = None,
        calendar: str | None = None,
        project: bool = True,
    ) -> NDArray[np.float32]:
        """Sample paths (series, path, step, field). A single frame is one series."""
        return self.forecast(
            df_list, x_timestamp_list, y_timestamp_list, pred_len, T, top_k, top_p, sample_count,
            seed=seed, calendar=calendar, project=project,
        ).paths  # fmt: skip

    def predict_quantiles(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Any = None,
        y_timestamp_list: Any = None,
        pred_len: int | None = None,
        levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 1.0,
        sample_count: int = 100,
        *,
        seed: int | Sequence[int] | None = None,
        calendar: str | None = None,
        project: bool = True,
    ) -> NDArray[np.float32]:
        """Quantiles over sample paths (series, level, step, field)."""
        return self.forecast(
            df_list, x_timestamp_list, y_timestamp_list, pred_len, T, top_k, top_p, sample_count,
            seed=seed, calendar=calendar, project=project,
        ).quantiles(levels)  # fmt: skip

    def forecast(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Any = None,
        y_timestamp_list: Any = None,
        pred_len: int | None = None,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 1.0,
        sample_count: int = 100,
        *,
        seed: int | Sequence[int] | None = None,
        calendar: str | None = None,
        project: bool = True,
    ) -> PathResult:
        """Everything at once: sample paths with their stamps, means, quantiles, event probabilities, projection rate.

        A single frame is one series. The other methods read their results off this one.
        """
        frames, x_timestamps, y_timestamps = df_list, x_timestamp_list, y_timestamp_list
        sampling = _sampling(T, top_k, top_p)
        if isinstance(frames, pd.DataFrame):
            frames = [frames]
            x_timestamps = None if x_timestamps is None else [x_timestamps]
            y_timestamps = None if y_timestamps is None else [y_timestamps]
        frames = list(frames)
        paths = check_paths(sample_count)
        x_lists = _one_each("x_timestamp_list", x_timestamps, len(frames))
        y_lists = _one_each("y_timestamp_list", y_timestamps, len(frames))
        if pred_len is None:
            if not y_lists or y_lists[0] is None:
                raise InputError("give pred_len or y_timestamp: how far to forecast is not known")
            pred_len = len(frame_stamps(y_lists[0], "0", "y_timestamp"))
        pred_len = check_horizon(pred_len, self.max_context)
        histories, index = [], []
        for i, (frame, x_stamps, y_stamps) in enumerate(zip(frames, x_lists, y_lists, strict=True)):
            name = str(i)
            values = frame_values(frame, name)
            past = frame_stamps(frame.index if x_stamps is None else x_stamps, name, "x_timestamp")
            if len(past) != len(values):
                raise InputError(f"series {name}: {len(values)} rows but {len(past)} entries in x_timestamp")
            future = (
                _continued(past, pred_len, calendar, name)
                if y_stamps is None
                else frame_stamps(y_stamps, name, "y_timestamp")
            )
            if (past.tz is None) != (future.tz is None):
                with_zone, without = ("x", "y") if future.tz is None else ("y", "x")
                raise InputError(
                    f"series {name}: {with_zone}_timestamp has a time zone, {without}_timestamp has none: "
                    "give both the same one (tz_localize), or neither"
                )
            if past.tz is not None:
                future = future.tz_convert(past.tz)  # hours and days are read off one clock
            if len(future) != pred_len:
                raise InputError(f"series {name}: y_timestamp has {len(future)} entries for pred_len={pred_len}")
            if len(past) and future[0] <= past[-1]:
                raise InputError(f"series {name}: y_timestamp starts at {future[0]}, not after {past[-1]}")
            stamps = time_features(past), time_features(future)
            histories.append(check_history(name, values, *stamps, pred_len, physical=project))
            index.append(future)
        seeds = _seeds(seed, histories)
        return replace(self._run(histories, pred_len, paths, sampling, seeds, project), index=tuple(index))


def _sampling(T: float, top_k: int | None, top_p: float | None) -> Sampling:
    """None switches a truncation off, as users of other libraries expect."""
    return Sampling(T, 0 if top_k is None else top_k, 1.0 if top_p is None else top_p)


def _one_each(label: str, stamps: Any, series: int) -> list[Any]:
    """The stamps of each series; None stands for "not given"."""
    if stamps is None:
        return [None] * series
    if not pd.api.types.is_list_like(stamps):
        raise InputError(f"{label} must be a list with the stamps of each series, got {type(stamps).__name__}")
    each = list(stamps)
    check_same_length("series", series, **{label: each})
    return each


def _continued(past: pd.DatetimeIndex, steps: int, calendar: str | None, name: str) -> pd.DatetimeIndex:
    try:
        return future_timestamps(past, steps, calendar=calendar)
    except InputError as error:
        raise InputError(f"series {name}: {error}") from error


def _seeds(seed: int | Sequence[int] | None, histories: Sequence[History]) -> list[int]:
    """One seed a series. A single seed is mixed with each series' own bars, so that neither the order nor the
    rest of a batch matters and yet no two series share their draws."""
    if pd.api.types.is_list_like(seed):
        each = list(cast(Sequence[int], seed))
        check_same_length("series", len(histories), seed=each)
        return check_seeds([history.name for history in histories], each)
    common = check_whole("seed", secrets.randbits(64) if seed is None else seed)
    if not 0 <= common < 2**256:
        raise InputError(f"seed={seed} must be 0 or more, and below 2**256")
    digests = (
        hashlib.blake2b(history.values.tobytes(), digest_size=16, key=common.to_bytes(32, "little"))
        for history in histories
    )
    return [int.from_bytes(digest.digest(), "little") for digest in digests]
