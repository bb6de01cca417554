"""The private operators of torch that `kronos.cpu_kernels` calls: each exists, and equals public torch.

If one fails after an upgrade of torch, cap torch in pyproject.toml until `kronos/cpu_kernels.py` is adapted.
"""

from __future__ import annotations

import re
from functools import partial
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import kronos
from kronos import cpu_kernels

PACKAGE = Path(kronos.__file__).parent
PRIVATE_NAME = re.compile(r"torch\.(?:ops\.\w+\.\w+|cpu\._\w+)")
PRIVATE_NAMES = sorted(set(PRIVATE_NAME.findall(Path(cpu_kernels.__file__).read_text())))

needs_onednn = pytest.mark.skipif(not cpu_kernels.HAS_ONEDNN, reason="this build of torch has no oneDNN")
needs_int8 = pytest.mark.skipif(not cpu_kernels.supports_int8(), reason="this CPU has no VNNI instructions")
needs_bf16 = pytest.mark.skipif(not cpu_kernels.supports_bf16(), reason="this CPU has no bf16 instructions")


def test_private_names_occur_in_one_module_only() -> None:
    modules = [path.name for path in PACKAGE.rglob("*.py") if PRIVATE_NAME.search(path.read_text())]
    assert modules == ["cpu_kernels.py"]
    assert len(PRIVATE_NAMES) == 8


@needs_onednn
@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_a_private_name_of_torch_exists(name: str) -> None:
    try:
        attrgetter(name.removeprefix("torch."))(torch)
    except AttributeError:
        pytest.fail(f"{name} is gone: torch {torch.__version__} cannot be used until kronos/cpu_kernels.py is adapted")


@needs_onednn
@pytest.mark.parametrize("packed", [False, True])
def test_onednn_linear_equals_the_public_product(packed: bool) -> None:
    x, weight, bias, other = torch.randn(5, 64), torch.randn(32, 64), torch.randn(32), torch.randn(5, 32)
    expected = F.linear(x, weight, bias)
    stored = cpu_kernels.pack_weight(weight) if packed else weight
    assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    assert_close(cpu_kernels.onednn_linear(x, stored, bias), expected)
    assert_close(cpu_kernels.onednn_linear(x, stored, bias, "swish"), F.silu(expected))
    added, multiplied = (cpu_kernels.onednn_linear_binary(x, other, stored, bias, how) for how in ("add", "mul"))
    assert_close(added, expected + other)
    assert_close(multiplied, expected * other)


@needs_bf16
def test_onednn_linear_multiplies_bf16() -> None:
    x, weight = torch.randn(5, 64).bfloat16(), torch.randn(32, 64).bfloat16()
    out = cpu_kernels.onednn_linear(x, cpu_kernels.pack_weight(weight), None)
    torch.testing.assert_close(out, F.linear(x.float(), weight.float()).bfloat16(), rtol=2e-2, atol=2e-2)


@needs_int8
def test_int8_linear_sums_exactly() -> None:
    codes = torch.randint(0, 256, (5, 64), dtype=torch.uint8)
    weight = torch.randint(-127, 128, (32, 64), dtype=torch.int8)
    scale, zeros = torch.rand(32), torch.zeros(32, dtype=torch.int32)
    out = cpu_kernels.int8_linear(codes, 128, cpu_kernels.pack_int8_weight(weight), scale, zeros)
    torch.testing.assert_close(out, F.linear(codes.float() - 128, weight.float()) * scale)


@pytest.mark.parametrize("causal", [False, True])
def test_flash_attention_equals_the_public_attention(causal: bool) -> None:
    q, k, v = torch.randn(3, 2, 4, 6, 8).unbind(0)
    out, lse = cpu_kernels.flash_attention(q, k, v, causal)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, is_causal=causal), rtol=1e-5, atol=1e-5)
    scores = q @ k.transpose(-1, -2) / 8**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -torch.inf)
    torch.testing.assert_close(lse, scores.logsumexp(dim=-1), rtol=1e-5, atol=1e-5)
