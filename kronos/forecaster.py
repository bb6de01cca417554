"""KronosPredictor: forecasts as its users ask for them, from frames or from arrays."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from kronos.calendar import future_timestamps
from kronos.engine import MAX_POSITIONS, PredictorEngine, TokenizerEngine, weights_version
from kronos.errors import InputError, MismatchError
from kronos.features import FEATURES, time_features
from kronos.frozen import Precision, check_precision
from kronos.generation import Group, Overflow, generate
from kronos.inputs import (
    History,
    check_history,
    check_horizon,
    check_paths,
    check_same_length,
    frame_stamps,
    frame_values,
)
from kronos.model import Kronos
from kronos.normalisation import Normalisation, denormalise, normalise, window_statistics
from kronos.paths import PathResult, physical, price_floor
from kronos.plan import DEFAULT_BUDGET, Job, split
from kronos.sampling import Sampling, uniforms
from kronos.tokenizer import KronosTokenizer

Stamps = pd.Series | pd.DatetimeIndex | Sequence[Any]


class KronosPredictor:
    """A predictor and its tokenizer, ready to forecast.

    `device` None or "auto" takes CUDA where there is one. `precision` "fp32" reproduces the published
    numbers; "int8" (CPU) and "bf16" trade some of them for speed. `memory_budget` bounds, in bytes, what a
    forecast allocates at once beyond the weights; larger work is split, with the same result. `overflow`
    says what happens beyond `max_context` (see `kronos.generation.Overflow`).
    """

    def __init__(
        self,
        model: Kronos,
        tokenizer: KronosTokenizer,
        device: str | torch.device | None = None,
        max_context: int = 512,
        clip: float = 5,
        *,
        precision: Precision = "fp32",
        overflow: Overflow = "exact",
        memory_budget: int = DEFAULT_BUDGET,
    ) -> None:
        _check_pair(model, tokenizer, Normalisation(clip=float(clip)))
        if not 2 <= max_context <= MAX_POSITIONS:
            raise InputError(f"max_context={max_context} must lie in 2…{MAX_POSITIONS}")
        if overflow not in get_args(Overflow):
            raise InputError(f"overflow={overflow!r} is none of {', '.join(get_args(Overflow))}")
        self.device = resolve_device(device)
        check_precision(precision, self.device)
        self.model = model.to(self.device)
        self.tokenizer = tokenizer.to(self.device)
        self.max_context = max_context
        self.normalisation = Normalisation(clip=float(clip))
        self.precision = precision
        self.overflow = overflow
        self.memory_budget = memory_budget
        self._engines: tuple[PredictorEngine, TokenizerEngine] | None = None
        self._frozen_version: object = None

    @property
    def clip(self) -> float:
        return self.normalisation.clip

    def predict(
        self,
        df: pd.DataFrame,
        x_timestamp: Stamps | None = None,
        y_timestamp: Stamps | None = None,
        pred_len: int | None = None,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        sample_count: int = 1,
        verbose: bool = False,
        *,
        seed: int | None = None,
        calendar: str | None = None,
        project: bool = True,
    ) -> pd.DataFrame:
        """Mean path of one series: a frame of the six fields, indexed by the forecast's stamps.

        `df` holds open, high, low, close and, if known, volume and amount. `x_timestamp` defaults to the
        frame's index and `y_timestamp` to the next `pred_len` sessions of `calendar` (an
        exchange_calendars name) or of the history's own spacing. `project` false gives the authors' raw
        mean, in which volumes may be negative. `verbose` is accepted for compatibility.
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
        top_k: int = 0,
        top_p: float = 0.9,
        sample_count: int = 1,
        verbose: bool = False,
        *,
        seed: int | Sequence[int] | None = None,
        calendar: str | None = None,
        project: bool = True,
    ) -> list[pd.DataFrame]:
        """Mean paths of several series, which may differ in length. Arguments as for `predict`."""
        result, index = self._forecast_frames(
            df_list, x_timestamp_list, y_timestamp_list, pred_len, Sampling(T, top_k, top_p), sample_count,
            seed, calendar, project,
        )  # fmt: skip
        return [
            pd.DataFrame(mean, columns=list(FEATURES), index=stamps)
            for mean, stamps in zip(result.mean(), index, strict=True)
        ]

    def predict_paths(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Any = None,
        y_timestamp_list: Any = None,
        pred_len: int | None = None,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        sample_count: int = 30,
        *,
        seed: int | Sequence[int] | None = None,
        calendar: str | None = None,
        project: bool = True,
    ) -> NDArray[np.float32]:
        """Sample paths (series, path, step, field). A single frame is one series."""
        return self._forecast_frames(
            df_list, x_timestamp_list, y_timestamp_list, pred_len, Sampling(T, top_k, top_p), sample_count,
            seed, calendar, project,
        )[0].paths  # fmt: skip

    def predict_quantiles(
        self,
        df_list: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamp_list: Any = None,
        y_timestamp_list: Any = None,
        pred_len: int | None = None,
        levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        sample_count: int = 100,
        *,
        seed: int | Sequence[int] | None = None,
        calendar: str | None = None,
        project: bool = True,
    ) -> NDArray[np.float32]:
        """Quantiles over sample paths (series, level, step, field)."""
        return self._forecast_frames(
            df_list, x_timestamp_list, y_timestamp_list, pred_len, Sampling(T, top_k, top_p), sample_count,
            seed, calendar, project,
        )[0].quantiles(levels)  # fmt: skip

    def sample_paths(
        self,
        values: Sequence[ArrayLike],
        x_stamps: Sequence[ArrayLike],
        y_stamps: Sequence[ArrayLike],
        horizon: int,
        *,
        paths: int = 30,
        T: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seeds: Sequence[int],
        project: bool = True,
        names: Sequence[str] | None = None,
    ) -> PathResult:
        """Sample paths of several series from arrays, without pandas.

        `values[i]` (length_i, 6) bars in the order of FEATURES, `x_stamps[i]` (length_i, 5) and
        `y_stamps[i]` (horizon, 5) calendar features, `seeds[i]` the series' own random stream. A series'
        paths depend on nothing but its own four entries, bit for bit on the CPU. `names` label errors.
        """
        check_horizon(horizon, self.max_context)
        check_paths(paths)
        sampling = Sampling(T, top_k, top_p)
        labels = [str(i) for i in range(len(values))] if names is None else list(names)
        check_same_length("series", len(values), x_stamps=x_stamps, y_stamps=y_stamps, seeds=seeds, names=labels)
        histories = [check_history(*entry, horizon) for entry in zip(labels, values, x_stamps, y_stamps, strict=True)]
        return self._run(histories, horizon, paths, sampling, list(seeds), project)

    @torch.inference_mode()
    def _run(
        self,
        histories: Sequence[History],
        horizon: int,
        paths: int,
        sampling: Sampling,
        seeds: Sequence[int],
        project: bool,
    ) -> PathResult:
        raw = np.empty((len(histories), paths, horizon, len(FEATURES)), dtype=np.float32)
        tokens = np.empty((len(histories), paths, horizon, 2), dtype=np.int64)
        predictor, _ = self.engines()
        jobs = split(
            [len(history.values) for history in histories],
            bytes_of=lambda length: self._series_bytes(predictor, length, horizon, paths),
            paths=paths,
            budget=self.memory_budget,
        )
        for job in jobs:
            self._run_job(job, histories, horizon, paths, sampling, seeds, raw, tokens)
        if not len(histories):
            return PathResult(raw, np.empty(0, np.float32), project, tokens)
        floors = np.array([price_floor(history.values) for history in histories])
        projected, moved = physical(raw, floors)
        rate = moved.mean(axis=(1, 2), dtype=np.float32)
        return PathResult(projected if project else raw, rate, project, tokens)

    def _run_job(
        self,
        job: Job,
        histories: Sequence[History],
        horizon: int,
        paths: int,
        sampling: Sampling,
        seeds: Sequence[int],
        raw: NDArray[np.float32],
        tokens: NDArray[np.int64],
    ) -> None:
        predictor, tokenizer = self.engines()
        groups, scales = [], []
        for members in job:
            bars = np.stack([histories[i].values for i in members])
            mean, std = window_statistics(bars, bars.shape[1])
            scales.append((mean, std))
            normalised = normalise(bars, mean, std, self.clip, self.normalisation.epsilon)
            s1, s2 = tokenizer.encode(torch.from_numpy(normalised).to(self.device))
            stamps = np.stack([np.concatenate((histories[i].x_stamps, histories[i].y_stamps)) for i in members])
            uniform = uniforms([seeds[i] for i in members], paths, horizon)
            kept = slice(-self.max_context, None)  # no window ever reaches further back
            groups.append(
                Group(
                    s1[:, kept],
                    s2[:, kept],
                    torch.from_numpy(stamps[:, -(min(bars.shape[1], self.max_context) + horizon) :]).to(self.device),
                    uniform.to(self.device),
                )
            )
        generate(predictor, groups, max_context=self.max_context, sampling=sampling, overflow=self.overflow)
        for members, group, (mean, std) in zip(job, groups, scales, strict=True):
            group.caches = []
            history = self.max_context - horizon  # the decoder's window, like the predictor's, ends with the path
            z = tokenizer.decode(
                group.s1[:, -history:], group.s2[:, -history:], group.tokens[..., 0], group.tokens[..., 1]
            )
            spread = z.float().cpu().numpy()
            raw[members] = denormalise(spread, mean[:, None], std[:, None], self.normalisation.epsilon)
            tokens[members] = group.tokens.cpu().numpy()

    def engines(self) -> tuple[PredictorEngine, TokenizerEngine]:
        """The frozen models, made at the first forecast and again whenever a weight has changed."""
        version = weights_version(self.model), weights_version(self.tokenizer)
        if self._engines is None or version != self._frozen_version:
            with torch.no_grad():
                self._engines = (
                    PredictorEngine(self.model, self.precision),
                    TokenizerEngine(self.tokenizer),
                )
            self._frozen_version = version
        return self._engines

    def _series_bytes(self, predictor: PredictorEngine, length: int, horizon: int, paths: int) -> int:
        context = min(length, self.max_context)
        vocabulary = 2 ** max(self.model.s1_bits, self.model.s2_bits)
        decoder = paths * horizon * 12 * self.tokenizer.config.d_model * 4
        working = paths * vocabulary * 4 * 6 + (context + horizon) * self.model.config.d_model * 4
        return predictor.cache_bytes(paths, context, horizon) + working + decoder

    def _forecast_frames(
        self,
        frames: pd.DataFrame | Sequence[pd.DataFrame],
        x_timestamps: Any,
        y_timestamps: Any,
        pred_len: int | None,
        sampling: Sampling,
        paths: int,
        seed: int | Sequence[int] | None,
        calendar: str | None,
        project: bool,
    ) -> tuple[PathResult, list[pd.DatetimeIndex]]:
        if isinstance(frames, pd.DataFrame):
            frames = [frames]
            x_timestamps = None if x_timestamps is None else [x_timestamps]
            y_timestamps = None if y_timestamps is None else [y_timestamps]
        frames = list(frames)
        check_paths(paths)
        if pred_len is None:
            if not y_timestamps:
                raise InputError("give pred_len or y_timestamp: how far to forecast is not known")
            pred_len = len(y_timestamps[0])
        check_horizon(pred_len, self.max_context)
        x_lists = [frame.index for frame in frames] if x_timestamps is None else list(x_timestamps)
        y_lists = [None] * len(frames) if y_timestamps is None else list(y_timestamps)
        check_same_length("series", len(frames), x_timestamp_list=x_lists, y_timestamp_list=y_lists)
        histories, index = [], []
        for i, (frame, x_stamps, y_stamps) in enumerate(zip(frames, x_lists, y_lists, strict=True)):
            name = str(i)
            values = frame_values(frame, name)
            past = frame_stamps(x_stamps, name, "x_timestamp")
            if len(past) != len(values):
                raise InputError(f"series {name}: {len(values)} rows but {len(past)} entries in x_timestamp")
            future = (
                future_timestamps(past, pred_len, calendar=calendar)
                if y_stamps is None
                else frame_stamps(y_stamps, name, "y_timestamp")
            )
            if len(future) != pred_len:
                raise InputError(f"series {name}: y_timestamp has {len(future)} entries for pred_len={pred_len}")
            if len(past) and future[0] <= past[-1]:
                raise InputError(f"series {name}: y_timestamp starts at {future[0]}, not after {past[-1]}")
            histories.append(check_history(name, values, time_features(past), time_features(future), pred_len))
            index.append(future)
        seeds = _seeds(seed, histories)
        return self._run(histories, pred_len, paths, sampling, seeds, project), index


def resolve_device(device: str | torch.device | None) -> torch.device:
    """None and "auto" mean CUDA where there is one, else the CPU."""
    if device is None or str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def _seeds(seed: int | Sequence[int] | None, histories: Sequence[History]) -> list[int]:
    """One seed a series. A single seed is mixed with each series' own bars, so that neither the order nor the
    rest of a batch matters and yet no two series share their draws."""
    if seed is not None and not isinstance(seed, (int, np.integer)):
        check_same_length("series", len(histories), seed=seed)
        return [int(value) for value in seed]
    common = secrets.randbits(64) if seed is None else int(seed)
    if common < 0:
        raise InputError(f"seed={seed} must be 0 or more")
    digests = (
        hashlib.blake2b(history.values.tobytes(), digest_size=16, key=common.to_bytes(32, "little"))
        for history in histories
    )
    return [int.from_bytes(digest.digest(), "little") for digest in digests]


def _check_pair(model: Kronos, tokenizer: KronosTokenizer, normalisation: Normalisation) -> None:
    theirs, ours = (tokenizer.s1_bits, tokenizer.s2_bits), (model.s1_bits, model.s2_bits)
    if theirs != ours:
        raise MismatchError(
            f"tokenizer and predictor do not belong together: s1/s2 bits {theirs[0]}/{theirs[1]} against "
            f"{ours[0]}/{ours[1]}"
        )
    if tokenizer.config.d_in != len(FEATURES):
        raise MismatchError(f"the tokenizer reads {tokenizer.config.d_in} fields, a bar has {len(FEATURES)}")
    for owner, part in (("the predictor", model), ("the tokenizer", tokenizer)):
        if part.normalisation is not None:
            normalisation.require(part.normalisation, owner=owner)
