"""From histories to sample paths: one pair of models, arrays in, arrays out, memory bounded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from kronos.errors import InputError, MismatchError
from kronos.features import FEATURES
from kronos.inference.batching import DEFAULT_BUDGET, PATHS_AT_ONCE, path_parts, split
from kronos.inference.cuda_graph import CapturedGenerate
from kronos.inference.engine import MAX_POSITIONS, PredictorEngine, TokenizerEngine
from kronos.inference.generate import Group, Overflow, generate
from kronos.inference.packed_linear import Precision, check_precision
from kronos.inference.sampling import Sampling, uniforms
from kronos.inference.watch import WeightWatch
from kronos.model import Kronos
from kronos.normalisation import Normalisation, denormalise, normalise, window_statistics
from kronos.path_forecast import PathResult, physical, price_floor
from kronos.tokenizer import KronosTokenizer
from kronos.validation import (
    History,
    check_clip,
    check_history,
    check_horizon,
    check_paths,
    check_same_length,
    check_seeds,
    check_whole,
    warn_of_scale,
)

Model = TypeVar("Model", bound=nn.Module)


class Encoded(NamedTuple):
    """Histories of one length, ready to be decoded from; `members` are their series' places in the input."""

    members: Sequence[int]
    mean: NDArray[np.float32]  # (series, field)
    std: NDArray[np.float32]
    s1: Tensor  # (series, length), at most max_context
    s2: Tensor
    stamps: Tensor  # (series, length + horizon, 5)


class PathSampler:
    """A predictor and its tokenizer, ready to forecast.

    `device` None or "auto" takes CUDA where there is one. `precision` "fp32" reproduces the published
    numbers; "int8" (CPU) and "bf16" trade some of them for speed; models in another float type than
    float32 are computed with in float32, and stay as they are. `memory_budget` bounds, in bytes, what a
    forecast allocates at once beyond the weights; larger work is split, with the same result: by series, and
    one series by its paths. On the CPU a series' parts are of 256 paths (fewer where these need more than the
    default budget) whatever the budget is, so that no bit depends on it. The least is then what one series needs
    with 256 paths, or with all if they are fewer: at 400 → 24 some 130 MiB for Kronos-mini, 240 MiB for small.
    `overflow` says what happens beyond `max_context` (see `kronos.inference.generate.Overflow`).
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
        normalisation = Normalisation(clip=check_clip(clip))
        _check_pair(model, tokenizer, normalisation)
        max_context = check_whole("max_context", max_context)
        if not 2 <= max_context <= MAX_POSITIONS:
            raise InputError(f"max_context={max_context} must lie in 2…{MAX_POSITIONS}")
        if overflow not in get_args(Overflow):
            raise InputError(f"overflow={overflow!r} is none of {', '.join(get_args(Overflow))}")
        self.device = resolve_device(device)
        check_precision(precision, self.device)
        self.model = model.to(self.device)
        self.tokenizer = tokenizer.to(self.device)
        self.max_context = max_context
        self.normalisation = normalisation
        self.precision = precision
        self.overflow = overflow
        self.memory_budget = memory_budget
        self._engines: tuple[PredictorEngine, TokenizerEngine] | None = None
        self._watches: tuple[WeightWatch, WeightWatch] | None = None
        self._generate: Callable[..., None] = generate

    def __getstate__(self) -> dict[str, Any]:
        """Without what the first forecast makes again: packed weights and captured graphs cannot be copied."""
        return {**self.__dict__, "_engines": None, "_watches": None, "_generate": generate}

    @property
    def clip(self) -> float:
        return self.normalisation.clip

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
        With `project` the paths are projected onto what a market can print, and a history must be that:
        prices above 0, high not below low, no negative volume or amount. Without, both are left as they are.
        """
        horizon, paths = check_horizon(horizon, self.max_context), check_paths(paths)
        sampling = Sampling(T, top_k, top_p)
        labels = [str(i) for i in range(len(values))] if names is None else list(names)
        check_same_length("series", len(values), x_stamps=x_stamps, y_stamps=y_stamps, seeds=seeds, names=labels)
        streams = check_seeds(labels, seeds)
        entries = zip(labels, values, x_stamps, y_stamps, strict=True)
        histories = [check_history(*entry, horizon, physical=project) for entry in entries]
        return self._run(histories, horizon, paths, sampling, streams, project)

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
        warn_of_scale(histories, self.normalisation.epsilon)
        raw = np.empty((len(histories), paths, horizon, len(FEATURES)), dtype=np.float32)
        tokens = np.empty((len(histories), paths, horizon, 2), dtype=np.int64)
        engines = predictor, tokenizer = self.engines()
        # How many of a series' paths are decoded together shows in the last bits of a bar: on the CPU its parts are
        # of a fixed size, whatever the budget. A job of several series fits that size, so they part as if alone.
        on_cuda = self.device.type == "cuda"
        room, most = (self.memory_budget, paths) if on_cuda else (DEFAULT_BUDGET, min(paths, PATHS_AT_ONCE))
        lengths = [len(history.values) for history in histories]
        jobs = split(
            lengths,
            bytes_of=lambda length: self._series_bytes(predictor, length, horizon, most),
            paths=most,
            budget=min(self.memory_budget, room),
        )
        for job in jobs:
            longest = lengths[job[-1][-1]]
            several = partial(self._series_bytes, predictor, longest, horizon)
            encoded = [self._encode(tokenizer, histories, members, horizon) for members in job]
            for part in path_parts(paths, bytes_of=several, room=room, most=most):
                self._run_part(engines, encoded, horizon, part, sampling, seeds, raw, tokens)
        if not len(histories):
            return PathResult(raw, np.empty(0, np.float32), project, tokens)
        floors = np.array([price_floor(history.values) for history in histories])
        projected, moved = physical(raw, floors)
        rate = moved.mean(axis=(1, 2), dtype=np.float32)
        return PathResult(projected if project else raw, rate, project, tokens)

    def _encode(
        self, tokenizer: TokenizerEngine, histories: Sequence[History], members: Sequence[int], horizon: int
    ) -> Encoded:
        """The histories of some series of one length, once for all parts of their paths."""
        bars = np.stack([histories[i].values for i in members])
        mean, std = window_statistics(bars, bars.shape[1])
        normalised = normalise(bars, mean, std, self.clip, self.normalisation.epsilon)
        s1, s2 = tokenizer.encode(torch.from_numpy(normalised).to(self.device))
        stamps = np.stack([np.concatenate((histories[i].x_stamps, histories[i].y_stamps)) for i in members])
        stamps = stamps[:, -(min(bars.shape[1], self.max_context) + horizon) :]
        kept = slice(-self.max_context, None)  # no window ever reaches further back
        return Encoded(members, mean, std, s1[:, kept], s2[:, kept], torch.from_numpy(stamps).to(self.device))

    def _run_part(
        self,
        engines: tuple[PredictorEngine, TokenizerEngine],
        encoded: Sequence[Encoded],
        horizon: int,
        part: slice,
        sampling: Sampling,
        seeds: Sequence[int],
        raw: NDArray[np.float32],
        tokens: NDArray[np.int64],
    ) -> None:
        """Decode some paths of a job's series into `raw` and `tokens` (series, path, step, …)."""
        predictor, tokenizer = engines
        groups = []
        for known in encoded:
            uniform = uniforms([seeds[i] for i in known.members], part.stop, horizon)[:, part]
            groups.append(Group(known.s1, known.s2, known.stamps, uniform.to(self.device)))
        self._generate(predictor, groups, max_context=self.max_context, sampling=sampling, overflow=self.overflow)
        for known, group in zip(encoded, groups, strict=True):
            group.caches = []
            history = self.max_context - horizon  # the decoder's window, like the predictor's, ends with the path
            z = tokenizer.decode(
                group.s1[:, -history:], group.s2[:, -history:], group.tokens[..., 0], group.tokens[..., 1]
            )
            mean, std = known.mean[:, None], known.std[:, None]
            raw[known.members, part] = denormalise(z.float().cpu().numpy(), mean, std, self.normalisation.epsilon)
            tokens[known.members, part] = group.tokens.cpu().numpy()

    def engines(self) -> tuple[PredictorEngine, TokenizerEngine]:
        """The frozen models, made at the first forecast and again whenever a weight has changed.

        What counts as a change, and the one kind of write that does not, is in `kronos.inference.watch`.
        """
        models = self.model, self.tokenizer
        watches = self._watches
        if self._engines is None or watches is None or any(map(WeightWatch.changed, watches, models)):
            self._watches = WeightWatch(self.model), WeightWatch(self.tokenizer)  # before the weights are read
            with torch.no_grad():
                self._engines = (
                    PredictorEngine(_in_float32(self.model), self.precision),
                    TokenizerEngine(_in_float32(self.tokenizer)),
                )
            self._generate = CapturedGenerate() if self.device.type == "cuda" else generate
        return self._engines

    def _series_bytes(self, predictor: PredictorEngine, length: int, horizon: int, paths: int) -> int:
        context = min(length, self.max_context)
        vocabulary = 2 ** max(self.model.s1_bits, self.model.s2_bits)
        decoder = paths * horizon * 12 * self.tokenizer.config.d_model * 4
        working = paths * vocabulary * 4 * 6 + (context + horizon) * self.model.config.d_model * 4
        if self.device.type == "cuda":  # no fused kernel that merges: scores, masked scores and weights are stored
            queries = max(self.model.config.n_heads, self.tokenizer.config.n_heads * horizon)
            working += 3 * paths * queries * (context + horizon) * 4
        return predictor.cache_bytes(paths, context, horizon) + working + decoder


def _in_float32(model: Model) -> Model:
    """`model`, or where weights are of another float type a copy in float32, the type that bars are computed in."""
    if all(weight.dtype == torch.float32 for weight in model.parameters()):
        return model
    return copy.deepcopy(model).float()


def resolve_device(device: str | torch.device | None) -> torch.device:
    """None and "auto" mean CUDA where there is one, else the CPU."""
    if device is None or str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


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
