"""Weights packed once for inference, in fp32, bf16 or int8.

oneDNN with packed weights is what the CPU side stands on. On AMD Zen 5 it runs fp32 products at twice the
rate of torch's default (MKL), and a row of its result does not depend on how many rows are computed with
it, bit for bit, which MKL does not give below a dozen rows. That is what makes a series' forecast
independent of its batch. The int8 variant keeps this: every row has its own scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from kronos.errors import InputError
from kronos.linear import HAS_ONEDNN

Precision = Literal["fp32", "bf16", "int8"]
"""fp32 gives the published numbers. bf16 halves and int8 quarters what is read of the weights a step."""


class FrozenLinear(Protocol):
    """A linear layer whose weights no longer change: y = f(x Wᵀ + b) [· mul] [+ add].

    `x` is (rows, in); `mul` and `add` are (rows, out); at most one of the three extras is given.
    """

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor: ...


class DenseLinear:
    """torch's own product, for CUDA and for builds without oneDNN; float32 in and out, `dtype` inside."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype = torch.float32) -> None:
        self.weight = weight.to(dtype, copy=True).contiguous()
        self.bias = None if bias is None else bias.to(dtype)

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor:
        return _finish(F.linear(x.to(self.weight.dtype), self.weight, self.bias).float(), silu, mul, add)


class OneDnnLinear:
    """oneDNN with the weights in its own blocked layout and the epilogue fused into the product."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        # Packed for one row, oneDNN keeps the plain layout, which is slower for every number of rows.
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


class OneDnnBf16Linear:
    """bf16 weights and inputs, fp32 sums and results."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16().contiguous(), 32)
        self.bias = None if bias is None else bias.bfloat16()

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor:
        activation = "swish" if silu else "none"
        y = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), self.weight, self.bias, activation, [], "")
        return _finish(y.float(), False, mul, add)


class Int8Linear:
    """int8 weights with one scale an output, inputs rounded to 8 bits with one scale a row; sums are exact."""

    ZERO = 128  # unsigned inputs: the signed ones fall into a reference loop, 200 times slower

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        codes = (weight / scale[:, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(codes.contiguous(), None)
        self.scale = scale / 127
        self.zeros = torch.zeros(len(scale), dtype=torch.int32)
        self.bias = bias
        self.most, self.middle = torch.tensor(127.0), torch.tensor(self.ZERO + 0.5)

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor:
        # Not vector_norm: its maximum is a scalar loop, 20 times slower.
        size = x.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-30)
        codes = torch.addcmul(self.middle, x, self.most / size).to(torch.uint8)  # truncates, so this rounds half up
        sums = torch.ops.onednn.qlinear_pointwise(
            codes, 1.0, self.ZERO, self.weight, self.scale, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        if add is not None:
            y = torch.addcmul(add, sums, size)
            return y if self.bias is None else y.add_(self.bias)
        y = sums.mul_(size) if self.bias is None else torch.addcmul(self.bias, sums, size)
        return _finish(y, silu, mul, None)


class SharedInput:
    """Several linear layers of the same input: x (rows, in) → one result a layer.

    In fp32 they stay apart, so that each can fuse its own epilogue; in int8 and bf16 they become one
    product, so that the input is rounded once.
    """

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor | None]], precision: Precision) -> None:
        self.sizes = [len(weight) for weight, _ in layers]
        self.apart = precision == "fp32"
        if self.apart:
            self.layers = [freeze(weight, bias, precision) for weight, bias in layers]
            return
        biases = [weight.new_zeros(len(weight)) if bias is None else bias for weight, bias in layers]
        joined = freeze(torch.cat([weight for weight, _ in layers]), torch.cat(biases), precision)
        self.layers = [joined]

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        if self.apart:
            return [layer(x) for layer in self.layers]
        return self.layers[0](x).split(self.sizes, dim=-1)

    def gated(self, x: Tensor) -> Tensor:
        """silu(first(x)) · second(x)."""
        if self.apart:
            gate, value = self.layers
            return value(x, mul=gate(x, silu=True))
        first, second = self(x)
        # torch's silu rounds by an element's place in memory on the CPU; exp does not.
        return torch.neg(first).exp_().add_(1.0).reciprocal_().mul_(first).mul_(second)


def freeze(weight: Tensor, bias: Tensor | None, precision: Precision = "fp32") -> FrozenLinear:
    """Pack weight (out, in) and bias (out) for inference on the device they are on.

    Nothing is shared with them: a later write to either does not reach what is frozen.
    """
    weight = weight.detach().float()
    bias = None if bias is None else bias.detach().to(torch.float32, copy=True)
    if weight.device.type != "cpu" or not HAS_ONEDNN:
        return DenseLinear(weight, bias, torch.bfloat16 if precision == "bf16" else torch.float32)
    if precision == "int8":
        return Int8Linear(weight, bias)
    if precision == "bf16":
        return OneDnnBf16Linear(weight, bias)
    return OneDnnLinear(weight, bias)


def check_precision(precision: str, device: torch.device) -> None:
    """Raise InputError where `precision` is not known or the hardware has no instructions for it."""
    if precision not in ("fp32", "bf16", "int8"):
        raise InputError(f"precision {precision!r} is none of fp32, bf16, int8")
    if precision == "int8" and (device.type != "cpu" or not HAS_ONEDNN or not torch.cpu._is_vnni_supported()):
        raise InputError("precision 'int8' needs a CPU with VNNI instructions; use fp32 or bf16")
    if precision == "bf16" and device.type == "cpu" and not (HAS_ONEDNN and _cpu_has_bf16()):
        raise InputError("precision 'bf16' needs a CPU with bf16 instructions; use fp32 or int8")


def _cpu_has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _finish(y: Tensor, silu: bool, mul: Tensor | None, add: Tensor | None) -> Tensor:
    if silu:
        return F.silu(y, inplace=True)
    if mul is not None:
        return y.mul_(mul)
    if add is not None:
        return y.add_(add)
    return y
