"""The section [windows] of the settings: lookback, horizon, the three date ranges, and the preparation of the bars."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from pydantic import Field, model_validator

from resources.settings_section import Section
from resources.vintages import MONTHS

DateRange = tuple[date, date]
FillRule = Literal["none", "forward", "interpolate"]


class WindowSettings(Section):
    """Lookback, horizon and the three date ranges. Both dates of a range are part of it."""

    lookback_window: int = Field(90, ge=2, description="Bars that a model reads: the context.")
    predict_window: int = Field(
        10,
        ge=1,
        description="Bars that a model forecasts: the horizon. Chronos-2 continues beyond the steps that its weights "
        "were made for (16 for the packaged ones) in blocks of independent increments.",
    )
    max_context: int = Field(
        512,
        ge=2,
        le=4096,
        description="Bars that Kronos attends to, history and generated bars together; the oldest drop out first. The "
        "model has 4096 positions; the published weights were trained with 2048 (mini) and 512 (small, base), and more "
        "is warned of.",
    )
    clip: float = Field(
        5.0, gt=0, description="Limit of normalised inputs, in standard deviations of the lookback window."
    )
    train: DateRange = Field((date(2000, 3, 1), date(2009, 12, 31)), description="First and last day of training.")
    validation: DateRange = Field(
        (date(2010, 1, 1), date(2010, 12, 31)),
        description="First and last day of validation: early stopping and model selection. Starts after train ends.",
    )
    test: DateRange = Field(
        (date(2011, 1, 1), date(2013, 3, 1)),
        description="First and last day of the forecast origins that are scored. Starts after validation ends.",
    )
    embargo: int = Field(5, ge=0, description="Sessions left out between two ranges, in addition to the purge.")
    short_history: Literal["refuse", "exclude"] = Field(
        "refuse",
        description='A symbol with fewer bars than lookback + horizon: "refuse" stops, "exclude" leaves it out and '
        "reports it.",
    )

    fill: FillRule = Field(
        "none",
        description='Bars that are missing between two bars of a symbol, in the input of models: "none" (the bars that '
        'are there follow each other), "forward" (the close before, without volume) or "interpolate" (straight lines '
        "between the bars around). Never a forecast's origin or target, nor in a window's horizon; scores and "
        "backtests read no filled bar.",
    )
    fill_limit: int = Field(
        5,
        ge=1,
        description='fill = "forward" or "interpolate": most bars that are filled in a row. A longer gap is a '
        "suspension and is not filled at all.",
    )
    missing_volume: Literal["zero", "median", "mask"] = Field(
        "zero",
        description='What Kronos reads where a source has no volume or amount: "zero" (as the published models were '
        'trained), "median" (of the lookback) or "mask" (its mean, after normalisation). Weights keep the rule; a base '
        "with another is refused.",
    )
    events: Literal["keep", "drop", "downweight"] = Field(
        "keep",
        description="Training windows that hold an event (the end of a suspension, a jump, a price that looks like a "
        'split, a split): "keep" them, "drop" them, or "downweight" them to one in four. Validation and forecasts keep '
        "all.",
    )

    vintage: Literal["none", "year", "quarter", "month"] = Field(
        "none",
        description="How often the models are trained anew. A vintage is trained on bars before its date alone, and "
        'forecasts the sessions from it to the next one. "none": one training, for all sessions. Otherwise train and '
        "validation are the ranges of the first vintage, whose date is the day after validation; later vintages move "
        "both forward.",
    )
    vintage_train_years: int | None = Field(
        None,
        ge=1,
        description="Length of a vintage's training range, in years up to its validation range, not before the start "
        "of train; unset: all from the start of train.",
    )

    @model_validator(mode="after")
    def _vintages_begin_a_period(self) -> WindowSettings:
        if self.vintage == "none":
            if self.vintage_train_years is not None:
                raise ValueError(
                    f'vintage_train_years = {self.vintage_train_years} needs vintage = "year", "quarter" or "month"'
                )
            return self
        first, months = self.validation[1] + timedelta(days=1), MONTHS[self.vintage]
        if first.day != 1 or (first.month - 1) % months:
            begins = date(first.year, first.month - (first.month - 1) % months, 1)
            raise ValueError(
                f'validation ends on {self.validation[1]}: with vintage = "{self.vintage}" it ends on the last day of '
                f"a {self.vintage}, such as {begins - timedelta(days=1)}; the first vintage is of the day after"
            )
        return self

    @model_validator(mode="after")
    def _in_order(self) -> WindowSettings:
        ranges = {"train": self.train, "validation": self.validation, "test": self.test}
        for name, (first, last) in ranges.items():
            if last < first:
                raise ValueError(f"{name} ends on {last}, before it starts on {first}")
        if self.validation[0] <= self.train[1]:
            raise ValueError(
                f"validation starts on {self.validation[0]}: it must start after train ends, {self.train[1]}"
            )
        if self.test[0] <= self.validation[1]:
            raise ValueError(
                f"test starts on {self.test[0]}: it must start after validation ends, {self.validation[1]}"
            )
        if self.lookback_window > self.max_context:
            raise ValueError(
                f"lookback_window {self.lookback_window} exceeds max_context {self.max_context}: the model would read "
                f"the last {self.max_context} bars only. Shorten lookback_window, or raise max_context as far as the "
                "weights were trained for"
            )
        if self.predict_window >= self.max_context:
            raise ValueError(
                f"predict_window {self.predict_window} must be below max_context {self.max_context}: no history would "
                "fit into the context"
            )
        return self

    @property
    def cutoff(self) -> date:
        """The last day whose bars may influence weights, through gradients or selection."""
        return self.validation[1]
