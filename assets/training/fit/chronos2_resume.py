"""Chronos-2's own `fit`, going on from where a killed one was saved.

`fit` makes its trainer itself and offers no way to go on, so for as long as it runs, its trainer's name means one that
does. What a batch is drawn from is a stream of its own, the one that `fit` has always drawn from: the batches after a
state are those that would have come. Checkpoints are those of transformers' Trainer, whose last file is its state.
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
# The best, the newest, and the one before: from the last step there is nothing to go on to.
KEPT = 3


@contextmanager
def going_on(folder: Path, steps: int, seed: int) -> Iterator[int]:
    """While this holds, `fit` with this output folder, number of steps and seed goes on from its newest state.

    Yields:
        The step that it goes on from; 0: from the start.
    """
    from chronos.chronos2 import trainer

    saved = _newest_whole(folder, steps)
    first = int(saved.name.rpartition("-")[2]) if saved else 0
    own = trainer.Chronos2Trainer

    class GoingOn(own):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, train_dataset: Any, **named: Any) -> None:
            super().__init__(*arguments, train_dataset=_OwnDraws(train_dataset, seed, first), **named)

        def get_train_dataloader(self) -> Any:
            loader = super().get_train_dataloader()
            if saved:
                # A loader takes a number from the global stream when it starts, which is in the state already.
                loader.generator = torch.Generator()
            return loader

        def train(self, *arguments: Any, **named: Any) -> Any:
            return super().train(*arguments, **{**named, "resume_from_checkpoint": str(saved) if saved else None})

    trainer.Chronos2Trainer = GoingOn
    try:
        yield first
    finally:
        trainer.Chronos2Trainer = own


def _newest_whole(folder: Path, steps: int) -> Path | None:
    """The newest checkpoint before the last step; what was killed while it was written, and what is newer, goes."""
    found = None
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda one: int(one.name.rpartition("-")[2])):
        try:
            step = int(json.loads((checkpoint / STATE).read_text())["global_step"])
        except (OSError, ValueError, KeyError):
            step = steps
        if step < steps:
            found = checkpoint
        else:
            shutil.rmtree(checkpoint)
    return found


class _OwnDraws(IterableDataset[Any]):
    """Batches drawn from NumPy's global stream as if it were theirs alone, without the first ones."""

    def __init__(self, batches: Any, seed: int, first: int) -> None:
        self.batches, self.seed, self.first = batches, seed, first
        self.batch_size = batches.batch_size

    def __iter__(self) -> Iterator[Any]:
        drawn, state = iter(self.batches), np.random.RandomState(self.seed).get_state()
        for number in itertools.count():
            around = _exchange(state)
            try:
                batch = next(drawn)
            finally:
                state = _exchange(around)
            if number >= self.first:
                yield batch


def _exchange(state: Any) -> Any:
    """Put a state in place of that of NumPy's global stream, which `fit` draws from; the one that was there."""
    was = np.random.get_state()  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    return was
