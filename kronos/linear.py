"""Matrix products: the trainable layer, and weights packed once for inference.

oneDNN with packed weights is what the CPU side stands on. On AMD Zen 5 it runs fp32 products at twice the
rate of torch's default (MKL), and a row of its result does not depend on how many rows are computed with
it, bit for bit, which MKL does not give below a dozen rows. That is what makes a series' forecast
independent of its batch.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Precision = Literal["fp32", "bf16", "int8"]


class Linear(nn.Linear):
    """A trainable linear layer."""


class FrozenLinear(Protocol):
    """A linear layer whose weights no longer change: y = f(x Wᵀ + b) [· mul] [+ add].

    `x` is (rows, in); `mul` and `add` are (rows, out); at most one of the three extras is given.
    """

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor: ...


class DenseLinear:
    """torch's own product, for CUDA and for builds without oneDNN."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight.contiguous()
        self.bias = bias

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor:
        return _finish(F.linear(x, self.weight, self.bias), silu, mul, add)


class OneDnnLinear:
    """oneDNN with the weights in its own blocked layout and the epilogue fused into the product."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        # A row count of 1 makes oneDNN keep the plain layout, which is slower for every row count.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 32)
        self.bias = bias

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor:
        op = torch.ops.mkldnn._linear_pointwise
        if mul is not None:
            return op.binary(x, mul, self.weight, self.bias, "mul")
        if add is not None:
            return op.binary(x, add, self.weight, self.bias, "add")
        return op(x, self.weight, self.bias, "swish" if silu else "none", [], "")


def freeze(weight: Tensor, bias: Tensor | None, precision: Precision = "fp32") -> FrozenLinear:
    """Pack weight (out, in) and bias (out) for inference on the device they are on."""
    weight = weight.detach().float()
    bias = None if bias is None else bias.detach().float()
    if weight.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return OneDnnLinear(weight, bias)
    return DenseLinear(weight, bias)


def _finish(y: Tensor, silu: bool, mul: Tensor | None, add: Tensor | None) -> Tensor:
    if silu:
        return F.silu(y, inplace=True)
    if mul is not None:
        return y.mul_(mul)
    if add is not None:
        return y.add_(add)
    return y
