"""The sections [tokenizer], [predictor], [chronos2] and [volatility] of the settings: base weights and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Literal

from pydantic import Field, model_validator

from resources.settings_section import Fraction, Rate, Section


class StartingWeights(Section):
    """The weights that a model starts from, and what is known of their training data."""

    base: str = Field(
        "none",
        description='Weights to start from: "none" (random initialisation), "packaged" (the compact weights of '
        "candlecast), a folder, or a Hugging Face Hub id.",
    )
    revision: str | None = Field(
        None,
        description="Branch, tag or commit of a Hub id; unset: the main branch. `candlecast fetch` pins the home to "
        "its commit.",
    )
    cutoff: date | None = Field(
        None,
        description="Last day of the data that the base was trained on, where its card states none. Forecasts from "
        "origins up to it are in-sample.",
    )
    published: date | None = Field(
        None,
        description="Day on which the base was published, which bounds its training data where no cutoff is known; "
        "unset: the date of a Hub id's commit, for a folder unknown.",
    )

    licence: str | None = Field(
        None,
        min_length=1,
        description="Licence of the base, instead of the one that its card states.",
        json_schema_extra={"range": 'an SPDX identifier such as "Apache-2.0"'},
    )

    @model_validator(mode="after")
    def _dates_of_a_base(self) -> StartingWeights:
        for name, day in (("cutoff", self.cutoff), ("published", self.published)):
            if day and self.base in ("none", "packaged", "auto"):
                raise ValueError(f'{name} = {day} is of a folder or Hub id, not of base = "{self.base}": leave it out')
        if self.cutoff and self.published and self.cutoff > self.published:
            raise ValueError(f"cutoff = {self.cutoff} is after published = {self.published}")
        return self


class FitSettings(StartingWeights):
    """Training of one Kronos model."""

    adapt: Literal["full", "last_layers", "lora"] = Field("full", description="Which weights of the base are trained.")
    last_layers: int = Field(
        1, ge=1, description='adapt = "last_layers": number of trained blocks, and the heads after them.'
    )
    lora_rank: int = Field(8, ge=1, description='adapt = "lora": rank of the adapters.')
    epochs: int = Field(4, ge=0, description="Passes over the training windows; 0: the base is used unchanged.")
    steps_per_epoch: int | None = Field(
        None, ge=1, description="Optimiser steps per epoch; unset: every window once per epoch."
    )
    batch_size: int = Field(64, ge=1, description="Windows per optimiser step and process.")
    micro_batch: int | None = Field(
        None, ge=1, description="Windows per forward pass, with accumulated gradients; unset: batch_size."
    )
    learning_rate: Rate = Field(1e-3, description="Peak learning rate of AdamW.")
    weight_decay: Fraction = Field(0.01, description="Weight decay of AdamW.")
    warmup: Fraction = Field(
        0.05, description="Share of all steps with a linear warm-up; a cosine decay to zero follows."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    patience: int | None = Field(
        3, ge=1, description="Early stopping: epochs without a lower validation loss; unset: off."
    )
    validation_windows: int = Field(
        1024, ge=1, description="Largest number of validation windows, spread evenly over the validation range."
    )
    blind: Fraction = Field(
        0.0,
        description="Augmentation: share of windows whose volume and amount are set to zero. The published models "
        "used 0.05.",
    )
    mirror: Fraction = Field(
        0.0,
        description="Augmentation: share of windows with sign-flipped log returns. At 0.5 no drift is learnt.",
    )

    @model_validator(mode="after")
    def _adapts_a_base(self) -> FitSettings:
        if self.base == "none" and self.adapt != "full":
            raise ValueError(
                f'adapt = "{self.adapt}" freezes most weights of a base, and base = "none" has none to freeze: '
                'name a base, or set adapt = "full"'
            )
        return self


class TokenizerSettings(FitSettings):
    """The Kronos tokenizer: its shape when it is trained from scratch, and its training."""

    d_model: int = Field(64, ge=8, description='base = "none": width. Heads of even width must divide it.')
    n_heads: int = Field(4, ge=1, description='base = "none": attention heads.')
    ff_dim: int = Field(128, ge=8, description='base = "none": width of the feed-forward layers.')
    n_enc_layers: int = Field(3, ge=1, description='base = "none": encoder layers.')
    n_dec_layers: int = Field(3, ge=1, description='base = "none": decoder layers.')
    s1_bits: int = Field(7, ge=1, le=12, description='base = "none": bits of the coarse token.')
    s2_bits: int = Field(7, ge=1, le=12, description='base = "none": bits of the fine token.')
    beta: float = Field(0.05, description="Weight of the commitment loss of the quantiser.")
    gamma0: float = Field(1.0, description="Weight of the entropy per sample, which is minimised.")
    gamma: float = Field(1.1, description="Weight of the entropy over the batch, which is maximised.")
    zeta: float = Field(0.05, description="Weight of both entropy terms in the loss.")
    group_size: int = Field(
        7, ge=1, description="Shape of a buffer of the published format; divides s1_bits + s2_bits. Changes no result."
    )
    min_codebook_use: Fraction = Field(
        0.05, description="Acceptance check: least share of each token's codes that occur on validation windows."
    )
    max_reconstruction: float = Field(
        0.5,
        gt=0,
        description="Acceptance check: largest reconstruction RMSE of a price, in standard deviations of the lookback.",
    )

    @model_validator(mode="after")
    def _divides(self) -> TokenizerSettings:
        if self.d_model % self.n_heads or (self.d_model // self.n_heads) % 2:
            raise ValueError(f"d_model {self.d_model} must split into {self.n_heads} heads of even width")
        if (self.s1_bits + self.s2_bits) % self.group_size:
            raise ValueError(
                f"group_size {self.group_size} must divide s1_bits + s2_bits = {self.s1_bits + self.s2_bits}"
            )
        return self


class PredictorSettings(FitSettings):
    """The Kronos predictor: its shape when it is trained from scratch, its training and its selection."""

    d_model: int = Field(96, ge=8, description='base = "none": width, a multiple of 8.')
    n_heads: int = Field(4, ge=1, description='base = "none": attention heads.')
    ff_dim: int = Field(192, ge=8, description='base = "none": width of the feed-forward layers.')
    n_layers: int = Field(3, ge=1, description='base = "none": transformer layers.')
    ffn_dropout_p: Fraction = Field(0.1, description="Dropout in the feed-forward layers.")
    attn_dropout_p: Fraction = Field(0.0, description="Dropout of attention weights.")
    resid_dropout_p: Fraction = Field(0.1, description="Dropout of residual branches.")
    token_dropout_p: Fraction = Field(0.0, description="Dropout of token embeddings.")
    select_origins: int = Field(
        8,
        ge=0,
        description="Validation origins on which candidate weights are compared by CRPS; 0: by validation loss.",
    )
    select_paths: int = Field(50, ge=30, description="Sample paths per origin of that comparison.")
    select_candidates: int = Field(
        3, ge=1, description="Candidates compared in addition to the base: those with the lowest validation loss."
    )
    s1_sampling: Literal["teacher", "sampled"] = Field(
        "teacher",
        description='Coarse token that the fine token is trained on: "teacher": the true one; "sampled": drawn from '
        "the model, as in the published training.",
    )

    @model_validator(mode="after")
    def _divides(self) -> PredictorSettings:
        if self.d_model % self.n_heads or (self.d_model // self.n_heads) % 2:
            raise ValueError(f"d_model {self.d_model} must split into {self.n_heads} heads of even width")
        if self.d_model % 8:
            raise ValueError(f"d_model {self.d_model} must be a multiple of 8, for 4 cross-attention heads")
        return self


Chronos2Target = Literal["close", "log_return", "standardised_close", "range", "volume"]
PastCovariate = Literal["volume", "range", "market_return"]
# What the packaged weights were trained on, as their card states too.
PACKAGED_INPUTS: Mapping[str, tuple[str, ...]] = {
    "targets": ("standardised_close",),
    "past_covariates": ("range",),
    "future_covariates": (),
}
CALENDAR_COVARIATES = ("weekday", "month", "days_to_holiday", "days_since_holiday", "session_length", "expiry")


class Chronos2Settings(StartingWeights):
    """Chronos-2: published weights, or a compact model of the same architecture; its targets and covariates."""

    mode: Literal["zero-shot", "full", "lora"] = Field(
        "full", description='"zero-shot": the base unchanged; "full": train all weights; "lora": train adapters.'
    )
    steps: int = Field(600, ge=0, description="Optimiser steps; 0: the base is used unchanged.")
    batch_size: int = Field(64, ge=1, description="Series per optimiser step.")
    learning_rate: Rate = Field(2e-3, description="Peak learning rate.")
    context_length: int = Field(64, ge=16, description="Bars that the model reads.")
    d_model: int = Field(64, ge=8, description='base = "none": width. Heads of even width must divide it.')
    d_ff: int = Field(128, ge=8, description='base = "none": width of the feed-forward layers.')
    num_layers: int = Field(2, ge=1, description='base = "none": encoder layers.')
    num_heads: int = Field(4, ge=1, description='base = "none": attention heads.')
    patch_size: int = Field(8, ge=1, description='base = "none": bars per patch.')
    dropout: Fraction = Field(0.1, description='base = "none": dropout in training.')
    initialisation: Literal["published", "fan_in"] = Field(
        "published",
        description='base = "none": "published": as in chronos-forecasting, with small gains; a compact model may then '
        'learn one distribution for all inputs. "fan_in": values keep their size from layer to layer, and effects of '
        "single bars are found sooner.",
    )
    lora_rank: int = Field(8, ge=1, description='mode = "lora": rank of the adapters.')
    evaluate_every: int = Field(100, ge=1, description="Steps between two evaluations on the validation range.")
    targets: tuple[Chronos2Target, ...] = Field(
        ("close",),
        description="What is forecast together: the close, directly, by its log returns, or by the returns up to each "
        "step in units of the symbol's volatility at the origin (standardised_close, alone), the log of "
        'high / low ("range") and the volume. The quantiles of range and volume are stored as fields of these names. '
        "The packaged weights were trained on standardised_close with range as past covariate.",
    )
    past_covariates: tuple[PastCovariate, ...] = Field(
        (),
        description="Further input that is known up to the origin only; market_return: the mean log return of all "
        "symbols of the settings.",
    )
    future_covariates: tuple[str, ...] = Field(
        (),
        description="Further input that is known over the horizon too.",
        json_schema_extra={"range": f"{', '.join(CALENDAR_COVARIATES)}, and columns of chronos2.events"},
    )
    events: str | None = Field(
        None,
        description="Table of known events: a CSV file, absolute or relative to the settings file, or a table of the "
        'warehouse as "warehouse:NAME". Columns date, optionally symbol (empty: every symbol), and those that '
        "future_covariates names; a column of text is categorical. Its values must have been known before any origin "
        "that reads them.",
    )
    groups: str | None = Field(
        None,
        description="CSV of symbol, group, such as sectors: the symbols of a group are forecast together from each "
        "origin. A symbol without a group is forecast alone. Unset: every symbol is.",
    )
    series_at_once: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Symbols per call of the model, always this many: the last bits of a forecast depend on it. Unset: "
        "64 for compact weights and 8 for larger ones on a CPU; on a GPU up to 128, fewer with long contexts.",
    )

    @model_validator(mode="after")
    def _inputs_fit(self) -> Chronos2Settings:
        named = {"targets": self.targets, "past_covariates": self.past_covariates}
        for key, values in {**named, "future_covariates": self.future_covariates}.items():
            twice = sorted(_repeated(values))
            if twice:
                raise ValueError(f"{key}: {twice[0]} is there twice")
        if len({"close", "log_return", "standardised_close"} & set(self.targets)) != 1:
            raise ValueError(
                'targets needs one of "close", "log_return" and "standardised_close": the close is what is scored'
            )
        if "standardised_close" in self.targets and len(self.targets) > 1:
            raise ValueError(f"targets = {list(self.targets)}: standardised_close has units of its own: name it alone")
        both = sorted(_repeated((*self.targets, *self.past_covariates, *self.future_covariates)))
        if both:
            raise ValueError(f"{both[0]} is in two of targets, past_covariates and future_covariates: name it once")
        of_events = sorted(set(self.future_covariates) - set(CALENDAR_COVARIATES))
        if of_events and not self.events:
            raise ValueError(
                f"future_covariates: {of_events[0]} is none of {', '.join(CALENDAR_COVARIATES)}; for a column of your "
                "own set events"
            )
        return self

    @model_validator(mode="after")
    def _divides(self) -> Chronos2Settings:
        if self.d_model % self.num_heads or (self.d_model // self.num_heads) % 2:
            raise ValueError(f"d_model {self.d_model} must split into {self.num_heads} heads of even width")
        if self.base == "none" and self.mode == "lora":
            raise ValueError(
                'mode = "lora" adapts a base, and base = "none" has none: name a base, or set mode = "full"'
            )
        if self.base != "none" and self.initialisation == "fan_in":
            raise ValueError(
                f'initialisation = "fan_in" is of new weights, not of base = "{self.base}": set base = "none"'
            )
        return self


class VolatilitySettings(StartingWeights):
    """The volatility model: a regression in closed form, fitted to the bars of windows.train in seconds."""

    base: str = Field(
        "auto",
        description='Weights of the model: "packaged" (fitted to daily bars of US stocks up to 2009), "none" (fitted '
        'to the bars of windows.train), a folder, a Hugging Face Hub id, or "auto": "packaged" where bars are daily, '
        "windows.validation ends on or after the cutoff of those weights, and promotion.expires_days is unset, else "
        '"none".',
    )


def _repeated(values: Sequence[str]) -> set[str]:
    return {value for value in values if values.count(value) > 1}
