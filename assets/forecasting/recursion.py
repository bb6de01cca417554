"""First-order linear recursions, without scipy.signal, whose import takes longer than a run's recursions together."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

# A row of fewer series takes longer by numpy than by number.
FEW = 16


def first_order(inputs: np.ndarray, persistence: float) -> np.ndarray:
    """A(t) = inputs(t) + persistence · A(t−1) with A(0) = inputs(0), along the first axis: (n,) or (n, series), as the
    inputs; the bits of `scipy.signal.lfilter([1], [1, -persistence], inputs, axis=0)`."""
    if inputs.ndim == 1:
        floats = np.asarray(inputs, dtype=np.float64).tolist()
        return np.array(list(accumulate(floats, lambda last, value: value + persistence * last)), dtype=np.float64)
    if 0 < inputs.shape[1] < FEW:
        return np.stack([first_order(own, persistence) for own in inputs.T], axis=1)
    found = np.array(inputs, dtype=np.float64)
    for row in range(1, len(found)):
        found[row] += persistence * found[row - 1]
    return found
