"""Means over the symbols that have a value at a timestamp."""

from __future__ import annotations

import numpy as np


def mean_by_timestamp(stamps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct timestamps, oldest first, and the mean of their values: (m,) each, from (n,) in any order."""
    # In the order of time and then of value: a sum in another order of symbols has other last bits.
    order = np.lexsort((values, stamps))
    known, first = np.unique(stamps[order], return_index=True)
    sums = np.add.reduceat(values[order], first) if len(first) else values
    return known, sums / np.diff([*first, len(stamps)])
