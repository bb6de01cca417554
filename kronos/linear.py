"""The trainable linear layer.

On AMD Zen 5 oneDNN multiplies fp32 matrices at 2.2 times the rate of torch's default (MKL), forward and
backward. Inference packs the weights in addition, see `kronos.inference.packed_linear`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kronos.cpu_kernels import HAS_ONEDNN, onednn_linear


class _OneDnnProduct(torch.autograd.Function):
    """x Wᵀ + b and its three gradients, all as oneDNN products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = grads[0].reshape(-1, weight.shape[0])
        need_x, need_weight, need_bias = ctx.needs_input_grad
        return (
            onednn_linear(gradient, weight.t(), None).view(x.shape) if need_x else None,
            onednn_linear(gradient.t(), x.reshape(-1, weight.shape[1]).t(), None) if need_weight else None,
            gradient.sum(dim=0) if need_bias else None,
        )


class Linear(nn.Linear):
    """A trainable linear layer. On the CPU in fp32 it runs on oneDNN; elsewhere it equals `nn.Linear`."""

    def forward(self, x: Tensor) -> Tensor:
        if not _suits_onednn(x, self.weight):
            return F.linear(x, self.weight, self.bias)
        if torch.is_grad_enabled():
            out: Tensor = _OneDnnProduct.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return out
        return onednn_linear(x, self.weight, self.bias)


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        HAS_ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
