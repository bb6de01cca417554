"""Matrix products: the trainable layer, and weights packed once for inference.

oneDNN with packed weights is what the CPU side stands on. On AMD Zen 5 it runs fp32 products at twice the
rate of torch's default (MKL), and a row of its result does not depend on how many rows are computed with
it, bit for bit, which MKL does not give below a dozen rows. That is what makes a series' forecast
independent of its batch.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

HAS_ONEDNN = torch.backends.mkldnn.is_available()
Precision = Literal["fp32", "bf16", "int8"]


class _OneDnnProduct(torch.autograd.Function):
    """x Wᵀ + b and its three gradients, all as oneDNN products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = grads[0].reshape(-1, weight.shape[0])
        need_x, need_weight, need_bias = ctx.needs_input_grad
        return (
            _onednn(gradient, weight.t(), None).view(x.shape) if need_x else None,
            _onednn(gradient.t(), x.reshape(-1, weight.shape[1]).t(), None) if need_weight else None,
            gradient.sum(dim=0) if need_bias else None,
        )


class Linear(nn.Linear):
    """A trainable linear layer; on the CPU in fp32 its products run in oneDNN, elsewhere it is nn.Linear."""

    def forward(self, x: Tensor) -> Tensor:
        if not _suits_onednn(x, self.weight):
            return F.linear(x, self.weight, self.bias)
        if torch.is_grad_enabled():
            return _OneDnnProduct.apply(x, self.weight, self.bias)  # type: ignore[no-any-return]
        return _onednn(x, self.weight, self.bias)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        HAS_ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


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
    if weight.device.type == "cpu" and HAS_ONEDNN:
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
