"""Resuming chronos-forecasting's own `fit` from the newest saved state.

`fit` constructs its trainer itself and has no way to resume, so while it runs, the trainer's class is replaced by a
subclass that resumes. The batches come from a random stream of their own, the same that `fit` has always used, so the
batches after a state are those of an undisturbed fit. States are checkpoints of transformers' Trainer, which writes
`trainer_state.json` last. Stands on private parts of chronos-forecasting 2.3.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

STATE = "trainer_state.json"
# The best, the newest, and the one before it: a state of the last step cannot be resumed.
STATES_KEPT = 3


@contextmanager
def resuming(folder: Path, steps: int, seed: int) -> Iterator[int]:
    """Within this context, `fit` with this output folder, number of steps and seed resumes from its newest state.

    Yields:
        The step that it resumes from; 0: it starts from the beginning.
    """
    from chronos.chronos2 import trainer

    state = _newest_state(folder, steps)
    first = int(state.name.rpartition("-")[2]) if state else 0
    original = trainer.Chronos2Trainer

    class ResumingTrainer(original):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, train_dataset: Any, **named: Any) -> None:
            super().__init__(*arguments, train_dataset=_SeededBatches(train_dataset, seed, first), **named)

        def get_train_dataloader(self) -> Any:
            loader = super().get_train_dataloader()
            if state:
                # A loader draws a number from the global generator when it starts; the saved state includes that draw.
                loader.generator = torch.Generator()
            return loader

        def train(self, *arguments: Any, **named: Any) -> Any:
            return super().train(*arguments, **{**named, "resume_from_checkpoint": str(state) if state else None})

    trainer.Chronos2Trainer = ResumingTrainer
    try:
        yield first
    finally:
        trainer.Chronos2Trainer = original


def _newest_state(folder: Path, steps: int) -> Path | None:
    """The newest complete state before the last step; incomplete states and those of the last step are deleted."""
    newest = None
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])):
        try:
            step = int(json.loads((checkpoint / STATE).read_text())["global_step"])
        except (OSError, ValueError, KeyError):
            step = steps
        if step < steps:
            newest = checkpoint
        else:
            shutil.rmtree(checkpoint)
    return newest


class _SeededBatches(IterableDataset[Any]):
    """Batches drawn with NumPy's global generator as if nothing else used it, without the first `skipped` ones."""

    def __init__(self, batches: Any, seed: int, skipped: int) -> None:
        self.batches, self.seed, self.skipped = batches, seed, skipped
        self.batch_size = batches.batch_size

    def __iter__(self) -> Iterator[Any]:
        batches, own_state = iter(self.batches), np.random.RandomState(self.seed).get_state()
        for number in itertools.count():
            outer_state = _swap_numpy_state(own_state)
            try:
                batch = next(batches)
            finally:
                own_state = _swap_numpy_state(outer_state)
            if number >= self.skipped:
                yield batch


def _swap_numpy_state(state: Any) -> Any:
    """Set the state of NumPy's global generator, which `fit` draws from, and return the state before."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    return before
