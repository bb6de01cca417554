"""KronosPredictor: forecasts from pandas frames."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict, Unpack, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kronos.errors import InputError
from kronos.features import FEATURES, time_features
from kronos.frames import Timestamps, history_from_frame, horizon_of, listed, per_series, series_from_frame
from kronos.inference.first_step import first_step_law
from kronos.inference.hidden_states import Pooling, hidden_states
from kronos.inference.pipeline import PathSampler
from kronos.inference.sampling import Draws, Sampling
from kronos.path_forecast import FirstStepLaw, PathResult
from kronos.validation import (
    SeriesInput,
    check_horizon,
    check_integer,
    check_path_count,
    check_same_length,
    check_seeds,
)
from kronos.window_pool import check_windows, pooled_paths


class ForecastOptions(TypedDict, total=False):
    """Keyword arguments of all forecast methods beyond the authors' ones, see `KronosPredictor.forecast`."""

    seed: int | Sequence[int] | None
    calendar: str | None
    project: bool
    windows: Sequence[int | tuple[int, int]] | None
    draws: Draws


class SamplingOptions(ForecastOptions, total=False):
    """`ForecastOptions` and how paths are drawn, see `KronosPredictor.forecast`."""

    T: float
    top_k: int | None
    top_p: float | None
    sample_count: int
    verbose: bool


class KronosPredictor(PathSampler):
    """Forecasts from pandas frames; `sample_paths`, inherited, takes arrays. Constructed as PathSampler is.

    `predict` and `predict_batch` have the arguments of the authors' package, in their order. All methods are summaries
    of `forecast`, which documents the arguments.
    """

    def predict(
        self,
        df: pd.DataFrame,
        x_timestamp: Timestamps | None = None,
        y_timestamp: Timestamps | None = None,
        pred_len: int | None = None,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 0.9,
        sample_count: int = 1,
        verbose: bool = False,
        **options: Unpack[ForecastOptions],
    ) -> pd.DataFrame:
        """Mean path of one series: a frame of the six fields, indexed by the timestamps of the horizon.

        As published, `top_k` above 0 switches `top_p` off, and `verbose` shows a progress bar on stderr (by default
        there is none). Without `seed` the draws follow `torch.manual_seed`, but are not the authors' ones.
        `project=False` gives the authors' raw mean, in which volumes may be negative.
        """
        return self.predict_batch(
            [df], None if x_timestamp is None else [x_timestamp], None if y_timestamp is None else [y_timestamp],
            pred_len, T, top_k, top_p, sample_count, verbose, **options,
        )[0]  # fmt: skip

    def predict_batch(
        self,
        df_list: Sequence[pd.DataFrame],
        x_timestamp_list: Sequence[Timestamps] | None = None,
        y_timestamp_list: Sequence[Timestamps] | None = None,
        pred_len: int | None = None,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 0.9,
        sample_count: int = 1,
        verbose: bool = False,
        **options: Unpack[ForecastOptions],
    ) -> list[pd.DataFrame]:
        """Mean paths of several series, which may differ in length: one frame as from `predict` per series."""
        result = self.forecast(
            list(df_list), x_timestamp_list, y_timestamp_list, pred_len, T, top_k, top_p, sample_count,
            verbose=verbose, **options,
        )  # fmt: skip
        return [
            pd.DataFrame(mean, columns=list(FEATURES), index=index)
            for mean, index in zip(result.mean(), result.index, strict=True)
        ]

    def predict_paths(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Timestamps | Sequence[Timestamps] | None = None,
        y_timestamp_list: Timestamps | Sequence[Timestamps] | None = None,
        pred_len: int | None = None,
        **options: Unpack[SamplingOptions],
    ) -> NDArray[np.float32]:
        """Sample paths (series, path, step, field), 30 per series unless `sample_count` is given."""
        merged: SamplingOptions = {"sample_count": 30, **options}
        return self.forecast(df_list, x_timestamp_list, y_timestamp_list, pred_len, **merged).paths

    def predict_quantiles(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Timestamps | Sequence[Timestamps] | None = None,
        y_timestamp_list: Timestamps | Sequence[Timestamps] | None = None,
        pred_len: int | None = None,
        levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        **options: Unpack[SamplingOptions],
    ) -> NDArray[np.float32]:
        """Quantiles (series, level, step, field) of the first step's distribution and of the paths of later steps."""
        return self.forecast(df_list, x_timestamp_list, y_timestamp_list, pred_len, **options).quantiles(levels)

    def first_step(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Timestamps | Sequence[Timestamps] | None = None,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 1.0,
        *,
        project: bool = True,
    ) -> FirstStepLaw:
        """The model's distribution of the bar after each history, without sampling: values and their probabilities.

        Arguments as for `forecast`, whose `PathResult.first_step` is the same where history and horizon fit
        `max_context`. Raises InputError naming the series, field and row.
        """
        found = self._histories(df_list, x_timestamp_list)
        sampling = Sampling(T, 0 if top_k is None else top_k, 1.0 if top_p is None else top_p)
        stamps = [time_features(past) for _, past in found]
        return first_step_law(self, [values for values, _ in found], stamps, sampling, project=project)

    def embed(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Timestamps | Sequence[Timestamps] | None = None,
        pooling: Pooling = "last",
    ) -> NDArray[np.float32]:
        """Hidden states of the predictor as features for other models: (series, d_model) float32.

        Frames and timestamps as for `forecast`; a single frame gives (1, d_model). `pooling` "last" is the state of the
        newest bar after the last norm, from which the next bar is predicted; "mean" the mean over the bars of the
        window, the last `max_context` ones. A vector has no scale of prices: bars are normalised by their own history.

        Raises InputError naming the series, field and row, or an unknown pooling.
        """
        found = self._histories(df_list, x_timestamp_list)
        stamps = [time_features(past) for _, past in found]
        return hidden_states(self, [values for values, _ in found], stamps, pooling=pooling)

    @staticmethod
    def _histories(
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Timestamps | Sequence[Timestamps] | None,
    ) -> list[tuple[NDArray[np.float64], pd.DatetimeIndex]]:
        """Bars and timestamps of each frame."""
        frames, x_timestamp_list = listed(df_list, x_timestamp_list)
        x_timestamps = per_series("x_timestamp_list", x_timestamp_list, len(frames))
        return [history_from_frame(str(i), *one) for i, one in enumerate(zip(frames, x_timestamps, strict=True))]

    def forecast(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Timestamps | Sequence[Timestamps] | None = None,
        y_timestamp_list: Timestamps | Sequence[Timestamps] | None = None,
        pred_len: int | None = None,
        T: float = 1.0,
        top_k: int | None = 0,
        top_p: float | None = 1.0,
        sample_count: int = 100,
        *,
        seed: int | Sequence[int] | None = None,
        calendar: str | None = None,
        project: bool = True,
        windows: Sequence[int | tuple[int, int]] | None = None,
        draws: Draws = "stratified",
        verbose: bool = False,
    ) -> PathResult:
        """Sample paths with their timestamps, means, quantiles, event probabilities and projection rate.

        Args:
            df_list: one frame per series, or a single frame, with open, high, low, close and, if known, volume and
                amount. Frames may differ in length. NaN in volume or amount is completed by the rule of the models,
                `missing_volume`. Without a column volume (amount), one of `kronos.frames.ALIASES` is used; columns
                whose names merely resemble them are not, with a warning.
            x_timestamp_list: the timestamps of each frame's rows; those of a single frame are given as they are.
                Default: the index of each frame, or its column timestamps, timestamp, datetime or date where the index
                is a mere row number. Without a time zone they are the exchange's wall clock.
            y_timestamp_list: the timestamps of the bars to forecast, converted to the time zone of the history.
                Default: the next `pred_len` bars, see `kronos.calendar.future_timestamps`.
            pred_len: the number of bars to forecast. Default: the length of the first `y_timestamp_list` entry.
            T: temperature; 0 is greedy.
            top_k: draw from the k most likely tokens only; 0 or None: off. Above 0 it switches `top_p` off, as
                published; a warning says so.
            top_p: draw from the most likely tokens whose probabilities sum up to top_p; 1 or None: off.
            sample_count: the number of sample paths.
            seed: one integer for all series, or one per series. One integer is combined with the bars of each series,
                so that a forecast depends on neither the order nor the rest of the batch. Default: drawn from torch's
                global generator, so that the same `torch.manual_seed` before a call gives the same forecast.
            calendar: an exchange_calendars name, for the default of `y_timestamp_list`.
            project: project paths onto valid bars, and refuse a history with invalid bars (a price of 0 or less, high
                below low, negative volume or amount). False leaves both as they are, as the authors do.
            windows: pool the paths of several windows that end at the origin, each a number of bars, or (bars, scale)
                for bars that are aggregates of `scale` ones; see `kronos.window_pool`. Default: the whole history.
            draws: "stratified": the paths of a series together cover its distribution evenly, so that few of them
                represent it, and the result holds the exact distribution of the first step; each path by itself is a
                draw from the model. "independent": paths are independent of each other.
            verbose: show a progress bar on stderr, with `windows` one per window.

        Raises InputError naming the series, field and row.
        """
        sampling = Sampling(T, 0 if top_k is None else top_k, 1.0 if top_p is None else top_p)
        frames, x_timestamp_list, y_timestamp_list = listed(df_list, x_timestamp_list, y_timestamp_list)
        paths = check_path_count(sample_count)
        x_timestamps = per_series("x_timestamp_list", x_timestamp_list, len(frames))
        y_timestamps = per_series("y_timestamp_list", y_timestamp_list, len(frames))
        horizon = check_horizon(horizon_of(pred_len, y_timestamps), self.max_context)
        series = [
            series_from_frame(
                str(i),
                *one,
                horizon,
                calendar,
                valid_bars=project,
                missing_volume=self.normalisation.missing_volume,
            )
            for i, one in enumerate(zip(frames, x_timestamps, y_timestamps, strict=True))
        ]
        inputs = [one for one, _ in series]
        seeds = _seeds(seed, inputs)

        def sample(some: Sequence[SeriesInput], steps: int, count: int, own: Sequence[int]) -> PathResult:
            return self._sample(some, steps, count, sampling, own, project, verbose, draws)

        if windows is None:
            result = sample(inputs, horizon, paths, seeds)
        else:
            checked = check_windows(
                windows, horizon=horizon, paths=paths, max_context=self.max_context, project=project
            )
            result = pooled_paths(sample, inputs, horizon, paths, seeds, checked)
        return replace(result, index=tuple(index for _, index in series))


def _seeds(seed: int | Sequence[int] | None, inputs: Sequence[SeriesInput]) -> list[int]:
    """One seed per series. A single seed is combined with each series' own bars, so that neither the order nor the
    rest of a batch matters and yet no two series share their draws."""
    if pd.api.types.is_list_like(seed):
        seeds = list(cast(Sequence[int], seed))
        check_same_length("series", len(inputs), seed=seeds)
        return check_seeds([one.name for one in inputs], seeds)
    common = check_integer("seed", int(torch.randint(2**62, ())) if seed is None else seed)
    if not 0 <= common < 2**256:
        raise InputError(f"seed={seed} must be 0 or more, and below 2**256")
    digests = (
        hashlib.blake2b(one.values.tobytes(), digest_size=16, key=common.to_bytes(32, "little")) for one in inputs
    )
    return [int.from_bytes(digest.digest(), "little") for digest in digests]
