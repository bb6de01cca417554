"""Noticing that a model's weights have changed since they were frozen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

READ_WHOLE = 4096
SAMPLES = 64
"""Of a larger weight, how many values are read at each look; 1 ms in all for Kronos-small."""


class WeightWatch:
    """Sees whether a weight has been replaced or written to since the watch was made.

    torch counts a tensor's writes, but not those of fused optimisers or through `.data`. So the values are
    looked at too: of norms and biases all, of a matrix a sample. Only a write through `.data` to a few entries
    of one matrix, and to nothing else, can pass unseen: make a new predictor after such a one.
    """

    def __init__(self, model: nn.Module) -> None:
        self._counts = _write_counts(model)
        # Kept as views of the live weights: making them costs more than reading them.
        self._views = [_sample(p.detach()) for p in model.parameters()]
        self._values = self._read()

    def changed(self, model: nn.Module) -> bool:
        return _write_counts(model) != self._counts or self._read() != self._values

    def _read(self) -> bytes:
        """The values' bytes, which unlike the values are equal to themselves where they are NaN."""
        with torch.inference_mode():
            values = torch.cat([view.flatten() for view in self._views]).cpu()
            return values.view(torch.uint8).numpy().tobytes()  # numpy has no bfloat16


def _write_counts(model: nn.Module) -> list[tuple[int, int]]:
    """Each weight's address and writes; by hand, as `model.parameters()` takes three times as long."""
    counts: list[tuple[int, int]] = []
    modules = [model]
    while modules:
        module = modules.pop()
        modules.extend(child for child in module._modules.values() if child is not None)
        weights = (p for p in module._parameters.values() if p is not None)
        counts.extend((p.data_ptr(), 0 if p.is_inference() else p._version) for p in weights)
    return counts


def _sample(weight: Tensor) -> Tensor:
    """A view of all of a small tensor, or of values evenly spread over a large one."""
    if weight.numel() <= READ_WHOLE or not weight.is_contiguous():
        return weight
    step = weight.numel() // SAMPLES | 1  # odd, so that the samples do not stay in one column
    return weight.as_strided((weight.numel() // step,), (step,))
