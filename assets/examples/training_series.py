"""Synthetic series with covariates of random effect: what the packaged weights of the examples are fitted on.

Every series draws its own trend, seasonal shape, noise and covariates, and its own effect of each covariate. The effect
is part of the series only, so that a model learns to read it from the context. Not here: the series of the examples
themselves (processes), and the fit (fit).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from assets.forecasting.recursion import first_order

PERIODS = (4, 6, 7, 12, 24, 24, 24, 24, 24, 48, 168)
# Numbers of covariates, and their shares.
COVARIATES, SHARES = (0, 1, 2), (0.2, 0.4, 0.4)
# Shares of covariates without effect, with a positive and with a negative one. With as many negative as positive ones a
# small model learns none of either within minutes: it finds no first step.
SIGNS = (0.1, 0.68, 0.22)
BURN_IN = 100


@dataclass(frozen=True)
class SyntheticSeries:
    """A series and its covariates over the same (length,) steps, all float32.

    Attributes:
        effects: per covariate, the standard deviation of its part of the target over that of the whole target.
    """

    target: np.ndarray
    known: dict[str, np.ndarray] = field(default_factory=dict)
    past_only: dict[str, np.ndarray] = field(default_factory=dict)
    effects: dict[str, float] = field(default_factory=dict)


def synthetic_series(count: int, length: int, seed: int) -> Iterator[SyntheticSeries]:
    """`count` series of `length` steps; equal arguments give equal series."""
    for child in np.random.SeedSequence(seed).spawn(count):
        yield _series(np.random.default_rng(child), length)


def _series(rng: np.random.Generator, length: int) -> SyntheticSeries:
    """target = level + trend + seasons + effects of covariates + AR(1) noise, each part with a random weight."""
    steps = np.arange(length)
    period = int(rng.choice(PERIODS))
    parts = rng.uniform(0, 1) * _season(rng, steps, period)
    if rng.random() < 0.4:
        parts = parts + rng.normal(0, 1.5) * (steps / length - 0.5)
    known: dict[str, np.ndarray] = {}
    past_only: dict[str, np.ndarray] = {}
    shares: dict[str, np.ndarray] = {}
    for number in range(int(rng.choice(COVARIATES, p=SHARES))):
        values = _covariate(rng, steps, period)
        name = f"covariate_{number}"
        (known if rng.random() < 0.85 else past_only)[name] = values * np.exp(rng.normal()) + rng.normal(0, 5)
        weight = rng.choice([0, 1, -1], p=SIGNS) * rng.uniform(0.3, 1.5)
        shares[name] = weight * _response(rng, values)
    noise = np.exp(rng.uniform(np.log(0.05), np.log(0.4))) * _noise(rng, length, rng.uniform(0, 0.9))
    target = parts + sum(shares.values()) + noise
    spread = max(float(np.std(target)), 1e-9)
    effects = {name: float(np.std(share)) / spread for name, share in shares.items()}
    scaled = (target * np.exp(rng.normal(0, 2)) + rng.normal(0, 10)).astype(np.float32)
    return SyntheticSeries(scaled, _float32(known), _float32(past_only), effects)


def _season(rng: np.random.Generator, steps: np.ndarray, period: int) -> np.ndarray:
    harmonics = np.arange(1, int(rng.integers(1, 5)) + 1)
    sizes = rng.normal(size=len(harmonics)) / harmonics
    phases = rng.uniform(0, 2 * np.pi, len(harmonics))
    waves = np.sin(2 * np.pi * harmonics[:, None] * steps / period + phases[:, None])
    return _z_scores(sizes @ waves)


def _covariate(rng: np.random.Generator, steps: np.ndarray, period: int) -> np.ndarray:
    """One of: smooth weather with a season, white noise, pulses, steps between levels."""
    length = len(steps)
    kind = rng.choice(["weather", "noise", "pulses", "levels"], p=[0.7, 0.1, 0.1, 0.1])
    if kind == "weather":
        smooth = _z_scores(_noise(rng, length, rng.uniform(0.8, 0.995)))
        return _z_scores(smooth + rng.gamma(0.7) * _season(rng, steps, period))
    if kind == "noise":
        return rng.normal(size=length)
    if kind == "pulses":
        return _z_scores((rng.random(length) < rng.uniform(0.03, 0.3)).astype(float))
    changes = rng.random(length) < rng.uniform(0.02, 0.1)
    return _z_scores(rng.normal(size=length)[np.maximum.accumulate(np.where(changes, steps, 0))])


def _response(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """What a covariate adds to the target: mostly linear, sometimes beyond a threshold alone."""
    if rng.random() < 0.85:
        return values
    return _z_scores(np.maximum(values - rng.normal(0, 0.5), 0))


def _noise(rng: np.random.Generator, length: int, persistence: float) -> np.ndarray:
    """An AR(1) process of variance 1 after `BURN_IN` steps."""
    shocks = rng.normal(size=length + BURN_IN) * np.sqrt(1 - persistence**2)
    return first_order(shocks, persistence)[BURN_IN:]


def _z_scores(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-9))


def _float32(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: one.astype(np.float32) for name, one in values.items()}
