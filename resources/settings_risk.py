"""The section [risk] of the settings: which risk measures are read off the forecasts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from resources.settings_section import Section

Share = Annotated[float, Field(gt=0, lt=1)]


class RiskSettings(Section):
    """Value at risk, expected shortfall, and probabilities of a drawdown and of touching a price."""

    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 5, 10),
        min_length=1,
        description="Forecast steps of value at risk and expected shortfall; those beyond windows.predict_window are "
        "left out.",
    )
    levels: tuple[Annotated[float, Field(ge=0.001, le=0.25)], ...] = Field(
        (0.05,),
        min_length=1,
        description="Probabilities of a loss beyond the value at risk. Below the lowest of forecasts.levels the tail "
        "is that of earlier outcomes.",
    )
    drawdowns: tuple[Share, ...] = Field(
        (0.05, 0.1),
        description="Drawdowns within the horizon whose probability is computed, as fractions of the highest price "
        "since the origin; for models with sample paths.",
    )
    touches: tuple[Share, ...] = Field(
        (0.05,),
        description="Distances from the last close, up and down, whose probability of being touched within the horizon "
        "is computed, as fractions; for models with sample paths.",
    )

    @field_validator("steps", "levels", "drawdowns", "touches")
    @classmethod
    def _each_once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) < len(values):
            raise ValueError("each value once")
        return tuple(sorted(values))
