"""Drift of the input: the distance of two histograms of tokens. It does not import torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def histogram_drift(reference: ArrayLike, current: ArrayLike) -> float:
    """Jensen-Shannon divergence of two token histograms in bits: 0 for the same, 1 for disjoint.

    Raises ValueError for histograms of different lengths, and for an empty one.
    """
    p, q = (np.asarray(h, dtype=np.float64) for h in (reference, current))
    if p.shape != q.shape:
        raise ValueError(f"the histograms must have the same codebook, got shapes {p.shape} and {q.shape}")
    for label, counts in (("reference", p), ("current", q)):
        if not counts.sum() > 0:
            raise ValueError(f"the {label} histogram is empty")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(x > 0, x * np.log2(x / middle), 0.0).sum() / 2 for x in (p, q)]
    return float(max(0.0, sum(terms)))
