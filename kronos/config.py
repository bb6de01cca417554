"""Hyper-parameters of predictor and tokenizer, with the keyword names of the published config.json files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any, Self

from kronos.errors import CheckpointError


@dataclass(frozen=True)
class _Config:
    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "config") -> Self:
        """A config from the content of config.json. Raises CheckpointError naming missing and unknown keys."""
        known = {field.name for field in fields(cls)}
        missing, unknown = sorted(known - set(values)), sorted(set(values) - known)
        if missing or unknown:
            problems = [f"missing {', '.join(missing)}"] if missing else []
            problems += [f"unknown {', '.join(unknown)}"] if unknown else []
            raise CheckpointError(f"{source} is not a {cls.__name__}: {'; '.join(problems)}")
        try:
            return cls(**values)
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The keyword arguments of the model's constructor, ready for JSON."""
        return asdict(self)

    def __post_init__(self) -> None:
        """Raise CheckpointError for values of another type than the defaults, and for values out of range."""
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            if isinstance(default, bool):
                fits, wanted = isinstance(value, bool), "true or false"
            elif isinstance(default, int):
                integer = isinstance(value, Integral) and not isinstance(value, bool)
                fits, wanted = integer and value >= 1, "an integer of 1 or more"
            elif field.name.endswith("_dropout_p"):
                fits, wanted = isinstance(value, Real) and 0 <= float(value) <= 1, "a number from 0 to 1"
            else:
                fits, wanted = isinstance(value, Real) and math.isfinite(value), "a finite number"
            if not fits:
                raise CheckpointError(f"{type(self).__name__}: {field.name}={value!r} must be {wanted}")


@dataclass(frozen=True)
class KronosConfig(_Config):
    """The decoder-only predictor. The defaults are those of Kronos-small."""

    s1_bits: int = 10
    s2_bits: int = 10
    n_layers: int = 8
    d_model: int = 512
    n_heads: int = 8
    ff_dim: int = 1024
    ffn_dropout_p: float = 0.25
    attn_dropout_p: float = 0.1
    resid_dropout_p: float = 0.25
    token_dropout_p: float = 0.1
    learn_te: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_heads(self.d_model, self.n_heads, "KronosConfig")
        if self.d_model % 8:
            raise CheckpointError(
                f"KronosConfig: d_model={self.d_model} must be divisible by 8, for 4 cross-attention heads of even size"
            )


@dataclass(frozen=True)
class TokenizerConfig(_Config):
    """The tokenizer: a transformer auto-encoder with a binary spherical bottleneck."""

    d_in: int = 6
    d_model: int = 256
    n_heads: int = 4
    ff_dim: int = 512
    n_enc_layers: int = 4
    n_dec_layers: int = 4
    ffn_dropout_p: float = 0.0
    attn_dropout_p: float = 0.0
    resid_dropout_p: float = 0.0
    s1_bits: int = 10
    s2_bits: int = 10
    beta: float = 0.05
    gamma0: float = 1.0
    gamma: float = 1.1
    zeta: float = 0.05
    group_size: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_heads(self.d_model, self.n_heads, "TokenizerConfig")
        if (self.s1_bits + self.s2_bits) % self.group_size:
            raise CheckpointError(
                f"TokenizerConfig: group_size={self.group_size} must divide s1_bits + s2_bits = "
                f"{self.s1_bits + self.s2_bits}"
            )


def _check_heads(d_model: int, n_heads: int, owner: str) -> None:
    if d_model % n_heads or (d_model // n_heads) % 2:
        raise CheckpointError(f"{owner}: d_model={d_model} must split into n_heads={n_heads} heads of even size")


KRONOS_MINI = KronosConfig(
    n_layers=4, d_model=256, n_heads=4, ff_dim=512,
    ffn_dropout_p=0.2, attn_dropout_p=0.0, resid_dropout_p=0.2, token_dropout_p=0.0,
)  # fmt: skip
KRONOS_SMALL = KronosConfig()
KRONOS_BASE = KronosConfig(
    n_layers=12, d_model=832, n_heads=16, ff_dim=2048,
    ffn_dropout_p=0.2, attn_dropout_p=0.0, resid_dropout_p=0.2, token_dropout_p=0.0,
)  # fmt: skip
TOKENIZER_BASE = TokenizerConfig()
"""Kronos-Tokenizer-base, the tokenizer of small and base."""
TOKENIZER_2K = TokenizerConfig(group_size=5)
"""Kronos-Tokenizer-2k, the tokenizer of mini."""
TRAINED_CONTEXT = {(4, 256): 2048, (8, 512): 512, (12, 832): 512}
"""Bars in the training windows of the published weights, by (n_layers, d_model)."""
