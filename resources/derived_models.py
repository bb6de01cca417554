"""Names of derived forecasts: models whose forecasts are computed from the stored forecasts of other models.

Not here: how they are computed (assets.forecasting.calibration).
"""

from __future__ import annotations

RECALIBRATED, ANCHORED = "_recalibrated", "_anchored"
# The one that learns from earlier forecasts comes first: the other finds them in memory.
COMBINATIONS = ("combination_crps", "combination_equal")


def recalibrated(model: str) -> str:
    """The name of a model's recalibrated forecasts."""
    return f"{model}{RECALIBRATED}"


def is_recalibrated(model: str) -> bool:
    """Whether this is the name of recalibrated forecasts."""
    return model.endswith(RECALIBRATED)


def raw_model(model: str) -> str:
    """The model whose forecasts are recalibrated under this name; other names are returned as they are."""
    return model.removesuffix(RECALIBRATED)


def base_model(model: str) -> str:
    """The model whose own forecasts a calibrated model's are computed from; other names are returned as they are."""
    return raw_model(model).removesuffix(ANCHORED)


def is_derived_from(name: str, model: str) -> bool:
    """Whether this is the name of anchored or recalibrated forecasts of a model."""
    return name != model and base_model(name) == model


def is_reserved(name: str) -> bool:
    """Whether a name is kept for derived forecasts, so that no model of the settings may have it."""
    return name.lower() in COMBINATIONS or name.lower().endswith((RECALIBRATED, ANCHORED))
