"""The section [calibration] of the settings: forecasts that are derived from stored ones and their outcomes."""

from __future__ import annotations

from pydantic import Field

from resources.settings_section import Section


class CalibrationSettings(Section):
    """Forecasts that are derived from the stored ones of other models, and from outcomes of earlier origins."""

    enabled: bool = Field(
        True,
        description="Whether there are calibrated forecasts; off: the asset `calibrated_forecasts` does not exist.",
    )
    anchored: tuple[str, ...] = Field(
        ("kronos", "chronos2"),
        description="Models whose location and scale are shrunk towards the volatility model, as NAME_anchored. Names "
        "of built-in models and of [models].",
    )
    combined: bool = Field(
        True,
        description="Whether there are combinations of all models, with equal weights and with weights by the CRPS of "
        "earlier origins; off: the asset `combined_forecasts` does not exist.",
    )
    half_life: int = Field(
        365,
        ge=30,
        le=36500,
        description="Days after which an outcome counts half as much in the recalibration.",
    )
    warm_up: bool = Field(
        True,
        description="Forecast the origins of windows.validation too, so that the first origins of windows.test have "
        "earlier outcomes to learn from. They are on no scoreboard and in no backtest. With windows.vintage there is "
        "none: no vintage may forecast validation.",
    )
