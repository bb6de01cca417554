"""What must be true of the examples: their forecasts, the stated correlations, and the bounds of published weights."""

from __future__ import annotations

import numpy as np
import pandas as pd

from assets.examples.forecasts import HORIZON, ExampleName

# Correlations with the load that the example states: above, and below (None: no bound).
CORRELATIONS: dict[str, tuple[float, float | None]] = {"temperature": (0.6, None), "humidity": (0.3, 0.5)}
# What the published Chronos-2 weights have to stay below: value without unit; load in kW, mape in %.
BOUNDS: dict[ExampleName, dict[str, float]] = {
    "sine": {"mae": 0.15, "rmse": 0.20},
    "electricity": {"mae": 50.0, "rmse": 70.0, "mape": 10.0},
}


def forecast_problems(quantiles: pd.DataFrame) -> list[str]:
    """What is wrong with a stored forecast: its length, values that are not finite, quantiles that cross."""
    problems = [] if len(quantiles) == HORIZON else [f"{len(quantiles)} steps instead of {HORIZON}"]
    levels = sorted((name for name in quantiles.columns if name not in ("timestamp", "actual")), key=float)
    values = quantiles[levels].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        problems.append(f"{int((~np.isfinite(values)).sum())} quantiles are not finite")
    if (np.diff(values, axis=1) < 0).any():
        problems.append(f"{int((np.diff(values, axis=1) < 0).sum())} quantiles are below those of a lower level")
    return problems


def correlations(frame: pd.DataFrame) -> dict[str, float]:
    """The correlation of each covariate with the load."""
    return {name: float(frame[name].corr(frame["load"])) for name in CORRELATIONS}


def correlation_problems(found: dict[str, float]) -> list[str]:
    """The correlations that are not as stated."""
    return [
        f"{name}: {found[name]:.2f}, stated: {_range_text(low, high)}"
        for name, (low, high) in CORRELATIONS.items()
        if found[name] <= low or (high is not None and found[name] >= high)
    ]


def bound_problems(name: ExampleName, scores: dict[str, float]) -> list[str]:
    """The scores of an example that are not below their bounds."""
    return [
        f"{name}: {metric} {scores[metric]:.4g} is not below {bound:g}"
        for metric, bound in BOUNDS[name].items()
        if not scores[metric] < bound
    ]


def _range_text(low: float, high: float | None) -> str:
    return f"above {low:g}" if high is None else f"{low:g} … {high:g}"
