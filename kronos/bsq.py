"""Binary spherical quantisation: the code of a unit vector is its signs (Zhao et al., arXiv 2406.07548)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ENTROPY_EPSILON = 1e-8


class BinarySphericalQuantiser(nn.Module):
    """Signs of a unit vector, scaled to unit length, and the entropy loss that keeps all codes in use."""

    basis: Tensor
    group_basis: Tensor

    def __init__(self, bits: int, beta: float, gamma0: float, gamma: float, zeta: float, group_size: int) -> None:
        super().__init__()
        self.bits = bits
        self.beta = beta
        self.gamma0 = gamma0
        self.gamma = gamma
        self.zeta = zeta
        self.scale = 1.0 / math.sqrt(bits)
        # Not used; both are part of the published state dict.
        self.register_buffer("basis", 2 ** torch.arange(bits - 1, -1, -1))
        self.register_buffer("group_basis", 2 ** torch.arange(group_size - 1, -1, -1))

    def quantise(self, z: Tensor) -> Tensor:
        """z (…, bits) → ±1/√bits with a straight-through gradient. Zero counts as negative."""
        signs = torch.where(z > 0, 1.0, -1.0).to(z.dtype)
        return (z + (signs - z).detach()) * self.scale

    def loss(self, z: Tensor, quantised: Tensor) -> Tensor:
        """Commitment loss plus entropy penalty of unit vectors z (…, bits); a scalar."""
        commitment = self.beta * (quantised.detach() - z).square().sum(dim=-1).mean()
        certainty, diversity = self.entropies(z)
        return commitment + self.zeta * (self.gamma0 * certainty - self.gamma * diversity)

    def entropies(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean entropy of the bits per sample (minimised) and of the batch's mean bits (maximised), in nats.

        The published models were trained with this bitwise diversity term, not with the grouped one of the paper:
        `group_size` only sets the shape of a buffer.
        """
        p = torch.sigmoid(-4.0 * self.scale * z)
        per_sample = (_entropy_terms(p) + _entropy_terms(1 - p)).sum(dim=-1).mean()
        usage = p.flatten(0, -2).mean(dim=0)
        return per_sample, (_entropy_terms(usage) + _entropy_terms(1 - usage)).sum()


class TokenQuantiser(nn.Module):
    """Quantiser of latent vectors into two tokens: a coarse one of s1_bits and a fine one of s2_bits."""

    def __init__(
        self, s1_bits: int, s2_bits: int, beta: float, gamma0: float, gamma: float, zeta: float, group_size: int
    ) -> None:
        super().__init__()
        self.s1_bits = s1_bits
        self.s2_bits = s2_bits
        self.bsq = BinarySphericalQuantiser(s1_bits + s2_bits, beta, gamma0, gamma, zeta, group_size)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vectors (…, bits) → (loss, quantised (…, bits))."""
        unit = F.normalize(z, dim=-1)
        quantised = self.bsq.quantise(unit)
        return self.bsq.loss(unit, quantised), quantised

    def indices(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vectors (…, bits) → token ids (…), (…); the first bit of each token is the least significant."""
        positive = z > 0
        return pack_bits(positive[..., : self.s1_bits]), pack_bits(positive[..., self.s1_bits :])

    def codes(self, s1: Tensor, s2: Tensor) -> Tensor:
        """Token ids (…), (…) → ±1/√bits (…, bits)."""
        bits = torch.cat((unpack_bits(s1, self.s1_bits), unpack_bits(s2, self.s2_bits)), dim=-1)
        return (bits.float() * 2 - 1) * self.bsq.scale


def pack_bits(bits: Tensor) -> Tensor:
    """Booleans (…, n), least significant first → integers (…)."""
    weights = 2 ** torch.arange(bits.shape[-1], device=bits.device)
    return (bits * weights).sum(dim=-1)


def unpack_bits(index: Tensor, n: int) -> Tensor:
    """Integers (…) → booleans (…, n), least significant first."""
    return (index.unsqueeze(-1) >> torch.arange(n, device=index.device)) & 1 == 1


def _entropy_terms(p: Tensor) -> Tensor:
    return -p * torch.log(p + ENTROPY_EPSILON)
