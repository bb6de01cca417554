"""Linear layers with weights packed once for inference, in fp32, bf16 or int8.

The CPU path uses oneDNN with packed weights. On AMD Zen 5 it runs fp32 products at twice the rate of torch's
default (MKL), and a row of its result does not depend on how many rows are computed with it, bit for bit, which
MKL does not guarantee below a dozen rows. That makes a series' forecast independent of its batch. The int8
variant keeps this: every row has its own scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from kronos.cpu_kernels import (
    HAS_ONEDNN,
    int8_linear,
    onednn_linear,
    onednn_linear_binary,
    pack_int8_weight,
    pack_weight,
    supports_bf16,
    supports_int8,
)
from kronos.errors import InputError

Precision = Literal["fp32", "bf16", "int8"]
"""fp32 reproduces the published numbers. bf16 halves and int8 quarters the bytes of weights read per step."""


class PackedLinear(Protocol):
    """A linear layer with constant weights: y = f(x Wᵀ + b) [· mul] [+ add].

    `x` is (rows, in); `mul` and `add` are (rows, out); at most one of `silu`, `mul` and `add` is given.
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
        return _apply_epilogue(F.linear(x.to(self.weight.dtype), self.weight, self.bias).float(), silu, mul, add)


class OneDnnLinear:
    """oneDNN in fp32, with the epilogue fused into the product."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = pack_weight(weight)
        self.bias = bias

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor:
        if mul is not None:
            return onednn_linear_binary(x, mul, self.weight, self.bias, "mul")
        if add is not None:
            return onednn_linear_binary(x, add, self.weight, self.bias, "add")
        return onednn_linear(x, self.weight, self.bias, "swish" if silu else "none")


class OneDnnBf16Linear:
    """bf16 weights and inputs, fp32 sums and results."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = pack_weight(weight.bfloat16())
        self.bias = None if bias is None else bias.bfloat16()

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor:
        y = onednn_linear(x.bfloat16(), self.weight, self.bias, "swish" if silu else "none")
        return _apply_epilogue(y.float(), False, mul, add)


class Int8Linear:
    """int8 weights with one scale per output, inputs rounded to 8 bits with one scale per row; sums are exact."""

    ZERO_POINT = 128  # unsigned inputs: signed ones use a reference loop, which is 200 times slower

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        self.weight = pack_int8_weight((weight / scale[:, None]).round().to(torch.int8))
        self.scale = scale / 127
        self.zeros = torch.zeros(len(scale), dtype=torch.int32)
        self.bias = bias
        self.code_range, self.middle = torch.tensor(127.0), torch.tensor(self.ZERO_POINT + 0.5)

    def __call__(
        self, x: Tensor, *, silu: bool = False, mul: Tensor | None = None, add: Tensor | None = None
    ) -> Tensor:
        # Not vector_norm: its maximum is a scalar loop, 20 times slower.
        size = x.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-30)
        # The conversion truncates; with the 0.5 in `middle` this rounds half up.
        codes = torch.addcmul(self.middle, x, self.code_range / size).to(torch.uint8)
        sums = int8_linear(codes, self.ZERO_POINT, self.weight, self.scale, self.zeros)
        if add is not None:
            y = torch.addcmul(add, sums, size)
            return y if self.bias is None else y.add_(self.bias)
        y = sums.mul_(size) if self.bias is None else torch.addcmul(self.bias, sums, size)
        return _apply_epilogue(y, silu, mul, None)


class SharedInputLinear:
    """Several linear layers of the same input: x (rows, in) → one result per layer.

    In fp32 they stay separate, so that each can fuse its own epilogue. In int8 and bf16 they become one product,
    so that the input is rounded once.
    """

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor | None]], precision: Precision) -> None:
        self.sizes = [len(weight) for weight, _ in layers]
        self.separate = precision == "fp32"
        if self.separate:
            self.layers = [pack_linear(weight, bias, precision) for weight, bias in layers]
            return
        biases = [weight.new_zeros(len(weight)) if bias is None else bias for weight, bias in layers]
        joined = pack_linear(torch.cat([weight for weight, _ in layers]), torch.cat(biases), precision)
        self.layers = [joined]

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        if self.separate:
            return [layer(x) for layer in self.layers]
        parts: Sequence[Tensor] = self.layers[0](x).split(self.sizes, dim=-1)
        return parts

    def gated(self, x: Tensor) -> Tensor:
        """silu(first(x)) · second(x), for two layers."""
        if self.separate:
            gate, value = self.layers
            return value(x, mul=gate(x, silu=True))
        first, second = self(x)
        # On the CPU the last bit of torch's silu depends on an element's place in memory; that of exp does not.
        return torch.neg(first).exp_().add_(1.0).reciprocal_().mul_(first).mul_(second)


def pack_linear(weight: Tensor, bias: Tensor | None, precision: Precision = "fp32") -> PackedLinear:
    """Pack copies of weight (out, in) and bias (out,) for inference on their device.

    No memory is shared: later writes to `weight` or `bias` do not change the result.
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
    """Raise InputError where `precision` is unknown or the hardware has no instructions for it."""
    if precision not in ("fp32", "bf16", "int8"):
        raise InputError(f"precision {precision!r} is none of fp32, bf16, int8")
    if precision == "int8" and not (device.type == "cpu" and supports_int8()):
        raise InputError("precision 'int8' needs a CPU with VNNI instructions: use fp32 or bf16")
    if precision == "bf16" and device.type == "cpu" and not supports_bf16():
        raise InputError("precision 'bf16' needs a CPU with bf16 instructions: use fp32 or int8")


def _apply_epilogue(y: Tensor, silu: bool, mul: Tensor | None, add: Tensor | None) -> Tensor:
    if silu:
        return F.silu(y, inplace=True)
    if mul is not None:
        return y.mul_(mul)
    if add is not None:
        return y.add_(add)
    return y
