"""The schedule of a fit: number of steps, windows of each batch, learning rate. All of it is fixed before training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from resources.errors import CandlecastError
from resources.settings import ComputeSettings, FitSettings


@dataclass(frozen=True)
class TrainingSchedule:
    """The steps of a fit. A step is one update from `batch_size` windows in each of `processes` processes."""

    windows: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    micro_batch: int
    processes: int
    learning_rate: float
    weight_decay: float
    warmup: float
    max_grad_norm: float
    patience: int | None
    save_every: int
    seed: int

    @classmethod
    def from_settings(cls, fit: FitSettings, compute: ComputeSettings, windows: int, seed: int) -> TrainingSchedule:
        """The schedule for `windows` training windows.

        Raises:
            CandlecastError: one step needs more windows than there are.
        """
        processes = compute.processes * compute.nodes
        per_step = fit.batch_size * processes
        if fit.epochs and per_step > windows:
            raise CandlecastError(
                f"batch_size {fit.batch_size} in {processes} process(es) needs {per_step:,} windows per step, the "
                f"training range has {windows:,}: lower batch_size, or widen windows.train"
            )
        return cls(
            windows=windows,
            epochs=fit.epochs,
            steps_per_epoch=fit.steps_per_epoch or max(1, windows // per_step),
            batch_size=fit.batch_size,
            micro_batch=min(fit.micro_batch or fit.batch_size, fit.batch_size),
            processes=processes,
            learning_rate=fit.learning_rate,
            weight_decay=fit.weight_decay,
            warmup=fit.warmup,
            max_grad_norm=fit.max_grad_norm,
            patience=fit.patience,
            save_every=compute.save_every,
            seed=seed,
        )

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def epoch(self, number: int) -> np.ndarray:
        """(steps_per_epoch, processes, batch_size) window numbers, shuffled by seed and epoch.

        Every window appears once before any appears twice.
        """
        rng = np.random.default_rng([self.seed, number])
        needed = self.steps_per_epoch * self.processes * self.batch_size
        permutations = [rng.permutation(self.windows) for _ in range(math.ceil(needed / self.windows))]
        return np.concatenate(permutations)[:needed].reshape(self.steps_per_epoch, self.processes, self.batch_size)

    def used_windows(self) -> np.ndarray:
        """(n,) the numbers of the windows that any epoch uses, ascending."""
        used = np.zeros(self.windows, dtype=bool)
        for number in range(self.epochs):
            used[self.epoch(number).ravel()] = True
            if used.all():
                break
        return np.flatnonzero(used)

    def learning_rate_factor(self, step: int) -> float:
        """The factor on the learning rate at `step`: linear warm-up, then cosine decay to zero."""
        warmup_steps = round(self.warmup * self.steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, self.steps - warmup_steps)))


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """At most `most` evenly spaced numbers of 0 … count − 1, ascending."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
