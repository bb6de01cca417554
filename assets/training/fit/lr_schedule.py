"""Which windows are learnt from at which step, and how fast: everything of a fit that is decided before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from resources.errors import CandlecastError
from resources.settings import ComputeSettings, FitSettings


@dataclass(frozen=True)
class Schedule:
    """A fit's steps. A step is one update from `batch_size` windows in each of `processes` processes."""

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
    def of(cls, fit: FitSettings, compute: ComputeSettings, windows: int, seed: int) -> Schedule:
        """The schedule of some settings.

        Raises:
            CandlecastError: one step wants more windows than there are.
        """
        world = compute.processes * compute.nodes
        together = fit.batch_size * world
        if fit.epochs and together > windows:
            raise CandlecastError(
                f"batch_size {fit.batch_size} in {world} process(es) wants {together:,} windows a step, the training "
                f"range has {windows:,}: lower batch_size, or widen windows.train"
            )
        return cls(
            windows=windows,
            epochs=fit.epochs,
            steps_per_epoch=fit.steps_per_epoch or max(1, windows // together),
            batch_size=fit.batch_size,
            micro_batch=min(fit.micro_batch or fit.batch_size, fit.batch_size),
            processes=world,
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
        """(steps_per_epoch, processes, batch_size) window numbers: shuffled by seed and epoch, again when used up."""
        rng = np.random.default_rng([self.seed, number])
        wanted = self.steps_per_epoch * self.processes * self.batch_size
        rounds = [rng.permutation(self.windows) for _ in range(math.ceil(wanted / self.windows))]
        return np.concatenate(rounds)[:wanted].reshape(self.steps_per_epoch, self.processes, self.batch_size)

    def drawn(self) -> np.ndarray:
        """(n,) the numbers of the windows that any epoch uses, rising."""
        used = np.zeros(self.windows, dtype=bool)
        for number in range(self.epochs):
            used[self.epoch(number).ravel()] = True
            if used.all():
                break
        return np.flatnonzero(used)

    def rate(self, step: int) -> float:
        """The factor on the learning rate at `step`: a linear warm-up, then half a cosine to zero."""
        warm = round(self.warmup * self.steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of the numbers 0 … count − 1, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
