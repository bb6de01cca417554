"""The decoding step in onnxruntime against our engine: `python -m benchmarks.kronos_onnx [threads]`.

Both draw the tokens of the same histories from the same uniforms: the share of equal tokens is the parity, the time is
that of prefill and all steps, without the tokenizer. Needs the extra `onnx`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from assets.training.fit.base_weights import WEIGHTS
from benchmarks.kronos_workload import Workload, models
from kronos import Kronos, Sampling
from kronos.export import FINE, STEP, export_onnx
from kronos.inference.engine import PredictorEngine
from kronos.inference.generate import SeriesGroup, generate
from kronos.inference.sampling import sample_tokens, uniform_draws
from kronos.layers import DependencyAwareLayer

WORKLOADS = (
    Workload("compact", 1, 90, 10, 1, 0),
    Workload("compact", 1, 90, 10, 100, 0),
    Workload("mini", 1, 400, 24, 30, 0),
    Workload("small", 8, 90, 10, 5, 0),
    Workload("small", 1, 400, 24, 1, 0),
)
REPEATS = 3


class OnnxDecoder:
    """The exported graphs as a decoding loop."""

    def __init__(self, model: Kronos, folder: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.config = model.config
        export_onnx(model, folder)
        self.step, self.fine = (onnxruntime.InferenceSession(str(folder / name), options) for name in (STEP, FINE))
        self.names = [one.name for one in self.step.get_inputs()]

    def generate(self, group: SeriesGroup, sampling: Sampling) -> Tensor:
        """The tokens of every path (series, paths, horizon, 2); a history's caches are computed once and repeated."""
        series, paths, horizon, _ = group.uniform.shape
        uniform, length = group.uniform.flatten(0, 1), group.length
        out = self._run(group.s1, group.s2, group.stamps[:, :length], self._empty(series))
        logits, hidden = (np.repeat(one, paths, axis=0) for one in out[:2])
        caches = [np.repeat(one, paths, axis=axis) for one, axis in zip(out[2:], (1, 1, 0, 0), strict=True)]
        stamps = group.stamps[:, length:].repeat_interleave(paths, dim=0)
        drawn = []
        for step in range(horizon):
            s1 = sample_tokens(torch.from_numpy(logits), uniform[:, step, 0], sampling)
            fine = {"hidden": hidden, "s1": s1.numpy(), "cross_keys": caches[2], "cross_values": caches[3]}
            s2 = sample_tokens(torch.from_numpy(self.fine.run(None, fine)[0]), uniform[:, step, 1], sampling)
            drawn.append(torch.stack((s1, s2), dim=-1))
            if step < horizon - 1:
                logits, hidden, *caches = self._run(s1[:, None], s2[:, None], stamps[:, step : step + 1], caches)
        return torch.stack(drawn, dim=1).view(series, paths, horizon, 2)

    def _run(self, s1: Tensor, s2: Tensor, stamps: Tensor, caches: list[np.ndarray]) -> list[np.ndarray]:
        values = [s1.numpy(), s2.numpy(), stamps.numpy(), *caches]
        result: list[np.ndarray] = self.step.run(None, dict(zip(self.names, values, strict=True)))
        return result

    def _empty(self, rows: int) -> list[np.ndarray]:
        c, cross = self.config, DependencyAwareLayer.N_HEADS
        own = np.zeros((c.n_layers, rows, c.n_heads, 0, c.d_model // c.n_heads), np.float32)
        other = np.zeros((rows, cross, 0, c.d_model // cross), np.float32)
        return [own, own, other, other]


def random_group(model: Kronos, work: Workload) -> SeriesGroup:
    """Random histories of tokens and calendar features."""
    rng = torch.Generator().manual_seed(0)
    shape = work.series, work.lookback
    s1, s2 = (torch.randint(2**bits, shape, generator=rng) for bits in (model.s1_bits, model.s2_bits))
    stamps = torch.randint(1, 7, (work.series, work.lookback + work.horizon, 5), generator=rng)
    return SeriesGroup(s1, s2, stamps, uniform_draws(list(range(work.series)), work.paths, work.horizon))


def fastest(run: Callable[[], object]) -> float:
    """The shortest time of some repetitions, after one to warm up, in seconds."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.inference_mode()
def measure(work: Workload, threads: int) -> str:
    """One row of the table."""
    compact = work.size == "compact"
    model = Kronos.from_pretrained(WEIGHTS / "kronos_predictor") if compact else models(work.size)[0]
    sampling = Sampling()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
        decoder = OnnxDecoder(model, Path(folder), threads)
    engine, group = PredictorEngine(model), random_group(model, work)

    def ours() -> None:
        generate(engine, [group], max_context=512, sampling=sampling)

    own, theirs = fastest(ours), fastest(lambda: decoder.generate(group, sampling))
    same = (decoder.generate(group, sampling) == group.tokens).all(dim=-1).float().mean()
    return f"| {work} | {own * 1e3:.1f} ms | {theirs * 1e3:.1f} ms | {theirs / own:.1f} × | {same:.2%} |"


def main() -> None:
    """Measure every workload and print a Markdown table."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(threads)
    print("| workload | engine | onnxruntime | ratio | equal tokens |\n|---|---|---|---|---|", flush=True)
    for work in WORKLOADS:
        print(measure(work, threads), flush=True)


if __name__ == "__main__":
    main()
