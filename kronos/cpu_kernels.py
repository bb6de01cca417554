"""The private operators of torch that the CPU path calls, each in one function.

torch has no public access to oneDNN's packed and fused matrix products, to its int8 products, or to attention
that also returns the log-sum-exp. Their names and signatures may change with a minor release of torch, so no
other module uses them, and `tests/kronos/test_kronos_cpu_kernels.py` compares each with public torch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

HAS_ONEDNN = bool(torch.backends.mkldnn.is_available())
"""Whether this build of torch has oneDNN, and so all operators below but attention."""
PACKED_FOR_ROWS = 32
"""Rows that weights are packed for. For one row oneDNN keeps the plain layout, which is slower for any number."""


def onednn_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: Literal["none", "swish"] = "none"
) -> Tensor:
    """activation(x Wᵀ + b): x (…, in), plain or packed weight (out, in), bias (out,) → (…, out)."""
    # Why: 2.2 times the rate of torch's default (MKL) in fp32 on AMD Zen 5, and rows that do not depend on the batch.
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")
    return out


def onednn_linear_binary(
    x: Tensor, other: Tensor, weight: Tensor, bias: Tensor | None, operation: Literal["add", "mul"]
) -> Tensor:
    """(x Wᵀ + b) + other, or · other, in one pass: x (rows, in), other (rows, out) → (rows, out)."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, operation)
    return out


def pack_weight(weight: Tensor) -> Tensor:
    """A copy of weight (out, in), fp32 or bf16, in oneDNN's blocked layout, for `onednn_linear` only."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_FOR_ROWS)
    return packed


def pack_int8_weight(weight: Tensor) -> Tensor:
    """A copy of an int8 weight (out, in) in oneDNN's blocked layout, for `int8_linear` only."""
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)
    return packed


def int8_linear(x: Tensor, zero_point: int, weight: Tensor, scale: Tensor, weight_zeros: Tensor) -> Tensor:
    """((x - zero_point) Wᵀ) · scale in float32, sums exact.

    x (rows, in) uint8, packed int8 weight (out, in), scale (out,) float32, weight_zeros (out,) int32 → (rows, out).
    """
    out: Tensor = torch.ops.onednn.qlinear_pointwise(
        x, 1.0, zero_point, weight, scale, weight_zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return out


def flash_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Softmax attention in float32 and its log-sum-exp, which the public function does not return.

    q (batch, heads, queries, dim), k and v (batch, heads, keys, dim) → (batch, heads, queries, dim) and
    (batch, heads, queries).
    """
    out: Tensor
    lse: Tensor
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    return out, lse


def supports_int8() -> bool:
    """Whether oneDNN is available and the CPU has VNNI instructions, without which int8 is slower than fp32."""
    return HAS_ONEDNN and bool(torch.cpu._is_vnni_supported())


def supports_bf16() -> bool:
    """Whether oneDNN is available and the CPU multiplies bf16 in hardware (AVX-512 BF16 or AMX)."""
    return HAS_ONEDNN and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
