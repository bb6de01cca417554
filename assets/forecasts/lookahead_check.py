"""The proof that no bar after an origin reaches its forecast: change them all, forecast again, compare bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assets.forecasting.forecaster import Predict, Prediction, Task
from assets.market.history import History


def with_another_future(history: History, index: int, seed: int) -> History:
    """The same history up to bar `index`; after it every price, volume, split and dividend is another."""
    generator = np.random.default_rng(seed)
    after = len(history) - index - 1
    quoted, growth, shares = history.quoted.copy(), history.growth.copy(), history.shares.copy()
    quoted[index + 1 :] *= generator.uniform(0.2, 5, size=(after, 1))
    growth[index + 1 :] *= generator.uniform(0.5, 2)
    shares[index + 1 :] *= generator.integers(2, 5)
    return replace(history, quoted=quoted, growth=growth, shares=shares)


def changed_by_the_future(predict: Predict, tasks: Sequence[Task], targets: np.ndarray) -> list[Task]:
    """The tasks whose forecast differs, in any bit, once their future does."""
    others = [replace(t, history=with_another_future(t.history, t.index, seed)) for seed, t in enumerate(tasks)]
    before, after = predict(tasks, targets), predict(others, targets)
    return [task for row, task in enumerate(tasks) if _bytes(before, row) != _bytes(after, row)]


def _bytes(prediction: Prediction, row: int) -> bytes:
    paths = b"" if prediction.paths is None else prediction.paths[row].tobytes()
    return prediction.quantiles[row].tobytes() + prediction.corrected[row].tobytes() + paths
