"""Sampling paths from histories: one pair of models, arrays in, arrays out, bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kronos.devices import resolve_device, suitable_threads
from kronos.errors import InputError
from kronos.features import FEATURES, MissingVolume
from kronos.inference.batching import (
    BATCH_ROWS,
    CUDA_BATCH_ROWS,
    DEFAULT_BUDGET,
    MAX_PATHS,
    DecodedPart,
    EncodedHistories,
    decode_within_memory,
    default_budget,
    split_paths,
    split_series,
)
from kronos.inference.cuda_graph import CapturedGenerate
from kronos.inference.engine import MAX_POSITIONS, PredictorEngine, TokenizerEngine, WeightFingerprint, in_float32
from kronos.inference.first_step import POINTS, with_order
from kronos.inference.generate import Overflow, SeriesGroup, generate
from kronos.inference.packed_linear import Precision, check_precision
from kronos.inference.progress import Progress, progress_bar, undone_on_error
from kronos.inference.sampling import Draws, Sampling, check_draws, draw_uniforms, warn_about_sampling
from kronos.model import Kronos
from kronos.model_pair import check_pair, missing_volume_of
from kronos.normalisation import Normalisation, denormalise
from kronos.path_forecast import FirstStepLaw, PathResult, price_floor, project_bars
from kronos.tokenizer import KronosTokenizer
from kronos.validation import (
    SeriesInput,
    check_clip,
    check_horizon,
    check_integer,
    check_path_count,
    check_same_length,
    check_seeds,
    check_series,
    warn_about_context,
    warn_about_length,
    warn_about_scale,
)


class PathSampler:
    """A predictor and its tokenizer, ready to forecast from arrays.

    Args:
        model: the predictor, moved to `device`. Weights of another float type than float32 are left as they are;
            forecasts are computed in float32.
        tokenizer: the tokenizer that the predictor was trained with.
        device: None or "auto" means CUDA if available, else the CPU.
        max_context: the longest window in bars that the predictor reads, 2 to 4096.
        clip: normalised bars are clipped to ±clip standard deviations.
        precision: "fp32" reproduces the published numbers; "int8" (CPU) and "bf16" trade accuracy for speed.
        overflow: what happens beyond `max_context`, see `kronos.inference.generate.Overflow`.
        memory_budget: bytes that a forecast allocates at once beyond the weights. Default: 2 GiB on the CPU, a quarter
            of a GPU's memory. Larger work is split by series, and one series by its paths, with the same result. On
            the CPU the parts of a series have 256 paths (fewer where these need more than 2 GiB) whatever the budget
            is, so that no bit depends on it. The minimum is what one series needs with 256 paths, or with all if they
            are fewer: at 400 → 24 about 130 MiB for Kronos-mini, 240 MiB for small.
        missing_volume: the rule for NaN in volume and amount, see `kronos.features.complete_volume_amount`. Default:
            that of the checkpoints, "zero" where they state none. Another one than theirs is refused.
        threads: torch threads of a forecast on the CPU; their number is restored afterwards. Default: one for models
            with fewer than 5 million parameters together, which more threads make slower, else torch's setting.

    Raises InputError for a wrong argument and MismatchError for models that do not belong together.
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
        memory_budget: int | None = None,
        missing_volume: MissingVolume | None = None,
        threads: int | None = None,
    ) -> None:
        normalisation = Normalisation(
            clip=check_clip(clip), missing_volume=missing_volume or missing_volume_of(model, tokenizer)
        )
        check_pair(model, tokenizer, normalisation)
        max_context = check_integer("max_context", max_context)
        if not 2 <= max_context <= MAX_POSITIONS:
            raise InputError(f"max_context={max_context} must lie in 2…{MAX_POSITIONS}")
        if overflow not in get_args(Overflow):
            raise InputError(f"overflow={overflow!r} is none of {', '.join(get_args(Overflow))}")
        if threads is not None and check_integer("threads", threads) < 1:
            raise InputError(f"threads={threads} must be 1 or more")
        self.device = resolve_device(device)
        check_precision(precision, self.device)
        self.model = model.to(self.device)
        self.tokenizer = tokenizer.to(self.device)
        self.max_context = max_context
        self.normalisation = normalisation
        self.precision = precision
        self.overflow = overflow
        self.memory_budget = default_budget(self.device) if memory_budget is None else memory_budget
        self.threads = threads
        warn_about_context(model.config, max_context)
        self._engines: tuple[PredictorEngine, TokenizerEngine] | None = None
        self._fingerprints: tuple[WeightFingerprint, WeightFingerprint] | None = None
        self._generate: Callable[..., None] = generate

    def __getstate__(self) -> dict[str, Any]:
        """Without what the next forecast creates again: packed weights and captured graphs cannot be copied."""
        return {**self.__dict__, "_engines": None, "_fingerprints": None, "_generate": generate}

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
        verbose: bool = False,
        draws: Draws = "stratified",
    ) -> PathResult:
        """Sample paths of several series from arrays, without pandas.

        `values[i]` (length_i, 6) are bars in the order of `kronos.features.FEATURES`, NaN where volume or amount is
        missing, `x_stamps[i]` (length_i, 5) and `y_stamps[i]` (horizon, 5) the calendar features of history and
        horizon, `seeds[i]` seeds the series' own random stream. A series' paths depend on these four only, bit for bit
        on the CPU. `names` label errors, `verbose` shows a progress bar on stderr. `draws` as for
        `KronosPredictor.forecast`.

        With `project` the paths are projected onto valid bars, and a history must consist of valid bars: prices above
        0, high not below low, no negative volume or amount. Without it both are left as they are.

        Raises InputError naming the series, field and row.
        """
        horizon, paths = check_horizon(horizon, self.max_context), check_path_count(paths)
        sampling = Sampling(T, top_k, top_p)
        labels = [str(i) for i in range(len(values))] if names is None else list(names)
        check_same_length("series", len(values), x_stamps=x_stamps, y_stamps=y_stamps, seeds=seeds, names=labels)
        streams = check_seeds(labels, seeds)
        entries = zip(labels, values, x_stamps, y_stamps, strict=True)
        rule = self.normalisation.missing_volume
        inputs = [check_series(*entry, horizon, valid_bars=project, missing_volume=rule) for entry in entries]
        return self._sample(inputs, horizon, paths, sampling, streams, project, verbose, draws)

    def engines(self) -> tuple[PredictorEngine, TokenizerEngine]:
        """The packed models, created at the first forecast and again whenever a weight has changed.

        `kronos.inference.engine.WeightFingerprint` describes what counts as a change.
        """
        models = self.model, self.tokenizer
        taken = self._fingerprints
        if self._engines is None or taken is None or any(map(WeightFingerprint.changed, taken, models)):
            # Taken before the weights are read: a write in between is then seen as a change.
            self._fingerprints = WeightFingerprint(self.model), WeightFingerprint(self.tokenizer)
            with torch.no_grad():
                self._engines = (
                    PredictorEngine(in_float32(self.model), self.precision),
                    TokenizerEngine(in_float32(self.tokenizer)),
                )
            self._generate = CapturedGenerate() if self.device.type == "cuda" else generate
        return self._engines

    @torch.inference_mode()
    def _sample(
        self,
        inputs: Sequence[SeriesInput],
        horizon: int,
        paths: int,
        sampling: Sampling,
        seeds: Sequence[int],
        project: bool,
        verbose: bool = False,
        draws: Draws = "stratified",
    ) -> PathResult:
        check_draws(draws)
        warn_about_scale(inputs, self.normalisation.epsilon)
        warn_about_length(inputs, self.max_context)
        warn_about_sampling(sampling)
        with (
            suitable_threads(self.device, self.threads, self.model, self.tokenizer),
            progress_bar(len(inputs) * paths * horizon, verbose) as report,
        ):
            raw, tokens, law = self._draw(inputs, horizon, paths, sampling, seeds, report, draws)
        if not len(inputs):
            return PathResult(raw, np.empty(0, np.float32), project, tokens)
        floors = np.array([price_floor(one.values) for one in inputs])
        projected, changed = project_bars(raw, floors)
        rate = changed.mean(axis=(1, 2), dtype=np.float32)
        if project and law is not None:
            law.values[:] = project_bars(law.values, floors)[0]
        return PathResult(projected if project else raw, rate, project, tokens, first_step=law)

    def _draw(
        self,
        inputs: Sequence[SeriesInput],
        horizon: int,
        paths: int,
        sampling: Sampling,
        seeds: Sequence[int],
        report: Progress,
        draws: Draws,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], FirstStepLaw | None]:
        """Bars (series, path, step, 6) as decoded, tokens (series, path, step, 2), the first step if stratified."""
        raw = np.empty((len(inputs), paths, horizon, len(FEATURES)), dtype=np.float32)
        tokens = np.empty((len(inputs), paths, horizon, 2), dtype=np.int64)
        engines = predictor, tokenizer = self.engines()
        law = FirstStepLaw.empty(len(inputs), POINTS) if draws == "stratified" and not sampling.greedy else None
        decode = partial(self._decode, engines, horizon, sampling, seeds, raw, tokens, report)
        # How many of a series' paths are decoded together shows in the last bits of a bar: on the CPU the size of
        # its parts does not depend on the budget. A batch of several series fits that size, so each is split as if
        # it were alone.
        on_cuda = self.device.type == "cuda"
        budget, max_paths = (self.memory_budget, paths) if on_cuda else (DEFAULT_BUDGET, min(paths, MAX_PATHS))
        lengths = [len(one.values) for one in inputs]
        batches = split_series(
            lengths,
            bytes_of=lambda length: self._series_bytes(predictor, length, horizon, max_paths),
            paths=max_paths,
            budget=min(self.memory_budget, budget),
            most_rows=CUDA_BATCH_ROWS if on_cuda else BATCH_ROWS,
        )
        for batch in batches:
            longest = lengths[batch[-1][-1]]
            bytes_of = partial(self._series_bytes, predictor, longest, horizon)
            encoded = [self.encode(tokenizer, inputs, members, horizon) for members in batch]
            if law is not None:
                encoded = [with_order(self, engines, known, horizon, sampling, law) for known in encoded]
            for part in split_paths(paths, bytes_of=bytes_of, budget=budget, max_paths=max_paths):
                decode_within_memory(decode, DecodedPart(encoded, part), self.device)
        return raw, tokens, law

    def encode(
        self, tokenizer: TokenizerEngine, inputs: Sequence[SeriesInput], members: Sequence[int], horizon: int
    ) -> EncodedHistories:
        """The histories of some series of one length, encoded once for all their paths."""
        bars = np.stack([inputs[i].values for i in members])
        normalised, mean, std = self.normalisation.apply(bars, bars.shape[1])
        s1, s2 = tokenizer.encode(torch.from_numpy(normalised).to(self.device))
        stamps = np.stack([np.concatenate((inputs[i].x_stamps, inputs[i].y_stamps)) for i in members])
        stamps = stamps[:, -(min(bars.shape[1], self.max_context) + horizon) :]
        kept = slice(-self.max_context, None)  # no window reaches further back
        return EncodedHistories(members, mean, std, s1[:, kept], s2[:, kept], torch.from_numpy(stamps).to(self.device))

    def _decode(
        self,
        engines: tuple[PredictorEngine, TokenizerEngine],
        horizon: int,
        sampling: Sampling,
        seeds: Sequence[int],
        raw: NDArray[np.float32],
        tokens: NDArray[np.int64],
        report: Progress,
        part: DecodedPart,
    ) -> None:
        """Write one part's paths to `raw` and `tokens` (series, path, step, …)."""
        predictor, tokenizer = engines
        groups = []
        for known in part.encoded:
            own = [seeds[i] for i in known.members]
            uniform = draw_uniforms(own, part.paths.stop, horizon, stratified=known.order is not None)[:, part.paths]
            groups.append(SeriesGroup(known.s1, known.s2, known.stamps, uniform.to(self.device), known.order))
        options = {"max_context": self.max_context, "sampling": sampling, "overflow": self.overflow}
        with undone_on_error(report) as counted:
            self._generate(predictor, groups, **options, report=counted)
        for known, group in zip(part.encoded, groups, strict=True):
            group.caches = []
            history = self.max_context - horizon  # the decoder's window, like the predictor's, ends with the path
            z = tokenizer.decode(
                group.s1[:, -history:], group.s2[:, -history:], group.tokens[..., 0], group.tokens[..., 1]
            )
            mean, std = known.mean[:, None], known.std[:, None]
            raw[known.members, part.paths] = denormalise(z.float().cpu().numpy(), mean, std, self.normalisation.epsilon)
            tokens[known.members, part.paths] = group.tokens.cpu().numpy()

    def _series_bytes(self, predictor: PredictorEngine, length: int, horizon: int, paths: int) -> int:
        """Estimated memory in bytes of one series' forecast with `paths` paths; linear in `paths`."""
        context = min(length, self.max_context)
        vocabulary = 1 << max(self.model.s1_bits, self.model.s2_bits)
        decoder = paths * horizon * 12 * self.tokenizer.config.d_model * 4
        working = paths * vocabulary * 4 * 6 + (context + horizon) * self.model.config.d_model * 4
        if self.device.type == "cuda":  # no fused kernel that merges: scores, masked scores and weights are stored
            queries = max(self.model.config.n_heads, self.tokenizer.config.n_heads * horizon)
            working += 3 * paths * queries * (context + horizon) * 4
        return predictor.cache_bytes(paths, context, horizon) + working + decoder
