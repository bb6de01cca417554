"""The request of a checkpoint: its recipe, and the weights that training starts from.

A recipe holds everything that the weights depend on. Not here: how a checkpoint is built (build_checkpoint).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import BaseModel

from assets.forecasting.chronos2.input_settings import events_recipe, inputs_recipe
from assets.forecasting.kronos_forecaster import VERSION as KRONOS_FORECASTS
from assets.training.data.current_windows import TrainingWindows
from assets.training.data.eligible_windows import preparation
from assets.training.fit.base_weights import (
    SECTIONS,
    BaseWeights,
    base_of,
    require_matching_inputs,
    require_matching_shape,
)
from resources.checkpoints import PUBLICATION, Checkpoint, Kind, is_bounded
from resources.errors import CandlecastError
from resources.licences import refusal
from resources.settings import (
    Chronos2Settings,
    FitSettings,
    PredictorSettings,
    Settings,
    TokenizerSettings,
    VolatilitySettings,
)

RECIPE_VERSION = 2
# Keys that weights do not depend on: the location of the base (its digest is in the recipe) and its dates, limits of
# the acceptance checks, the size of a micro-batch.
_IRRELEVANT = frozenset(
    {"base", "revision", "cutoff", "published", "licence", "micro_batch", "min_codebook_use", "max_reconstruction"}
)
# Of Chronos-2 too: the inputs have a key of their own, and batches and groups are of forecasts.
_IRRELEVANT_CHRONOS2 = _IRRELEVANT | {
    "targets", "past_covariates", "future_covariates", "events", "groups", "series_at_once"
}  # fmt: skip
# Left out where they are the default: a new key would change the recipe of every checkpoint.
_LATER_CHRONOS2 = ("dropout", "initialisation")


@dataclass(frozen=True)
class CheckpointRequest:
    """A checkpoint to find or build.

    Attributes:
        recipe: everything that the weights depend on.
        base: the weights that training starts from.
        trains: whether there is any training; false: the base is published unchanged.
        tokenizer: the frozen tokenizer, for a predictor.
    """

    kind: Kind
    recipe: dict[str, Any]
    base: BaseWeights
    trains: bool
    tokenizer: Checkpoint | None = None

    @property
    def licence(self) -> str:
        """The licence of the weights: that of the base, from scratch MIT."""
        return "MIT" if self.base.from_scratch else self.base.licence

    def cutoff(self, settings: Settings) -> date | None:
        """The last day whose bars influence the weights, by training or selection."""
        own = self.base.cutoff_after(settings.windows.cutoff if self.trains else None)
        return own if self.tokenizer is None else _later(own, self.tokenizer.cutoff)

    def trained_until(self, settings: Settings) -> date | None:
        """The last day whose bars the weights are trained on."""
        own = self.base.trained_until_after(settings.windows.train[1] if self.trains else None)
        return own if self.tokenizer is None else _later(own, self.tokenizer.trained_until)

    def dates(self, settings: Settings) -> dict[str, str | None]:
        """What the card states of the training data: cutoff, its basis, and the last day of training."""
        cutoff, until = self.cutoff(settings), self.trained_until(settings)
        published = [self.base.cutoff] if self.base.bounded else []
        if self.tokenizer is not None and is_bounded(self.tokenizer.card):
            published.append(self.tokenizer.cutoff)
        return {
            "cutoff": cutoff.isoformat() if cutoff else None,
            "cutoff_basis": PUBLICATION if cutoff and cutoff in published else None,
            "trained_until": until.isoformat() if until else None,
        }


def checkpoint_request(
    kind: Kind,
    settings: Settings,
    windows: TrainingWindows,
    tokenizer: Checkpoint | None = None,
    vintage: date | None = None,
) -> CheckpointRequest:
    """The checkpoint of a kind for some settings.

    Args:
        settings: those of the vintage, if there are vintages.
        tokenizer: the frozen tokenizer, for a predictor.

    Raises:
        CandlecastError: the base does not exist, may have been trained on sessions of the vintage, or a predictor has
            no tokenizer.
    """
    if kind == "kronos_predictor" and tokenizer is None:
        raise CandlecastError("a predictor needs its tokenizer: materialise the asset `kronos_tokenizer` first")
    section = section_of_kind(kind, settings)
    base, trains = starting_weights(kind, settings)
    recipe: dict[str, Any] = {"version": RECIPE_VERSION, "kind": kind, "base": base.digest}
    if vintage is not None:
        base.require_before(vintage, SECTIONS[kind])
        recipe["vintage"] = vintage.isoformat()
    if tokenizer is not None:
        recipe["tokenizer"] = tokenizer.digest
    if kind != "chronos2_model":
        recipe["clip"] = settings.windows.clip
        if settings.windows.missing_volume != "zero":
            # Left out elsewhere: a new key would change the recipe of every checkpoint.
            recipe["missing_volume"] = settings.windows.missing_volume
    if trains:
        recipe |= {
            "settings": section.model_dump(mode="json", exclude=set(_irrelevant_keys(section))),
            "data": windows.digest,
            **preparation(settings.windows),
            "seed": settings.seed,
            "dtype": settings.compute.dtype,
            "processes": settings.compute.processes * settings.compute.nodes,
        }
        if kind == "chronos2_model":
            recipe |= inputs_recipe(settings) | events_recipe(settings)
        if kind == "kronos_predictor":
            # The epoch is chosen by the CRPS of forecasts, and another version of them may choose another one.
            recipe["forecasts"] = KRONOS_FORECASTS
    return CheckpointRequest(kind, recipe, base, trains, tokenizer)


def starting_weights(kind: Kind, settings: Settings) -> tuple[BaseWeights, bool]:
    """The base of a kind, and whether there is any training.

    Raises:
        CandlecastError: the base does not exist, is of another shape, has a licence that compute.licences refuses, or
            neither a base nor training is set.
    """
    section = section_of_kind(kind, settings)
    base = base_of(kind, section, settings)
    if reason := refusal(base.licence, settings.compute.licences, f"{SECTIONS[kind]}.licence"):
        raise CandlecastError(reason)
    require_matching_shape(kind, base, section)
    if isinstance(section, VolatilitySettings):
        return base, base.from_scratch
    trains = (
        section.epochs > 0 if isinstance(section, FitSettings) else section.steps > 0 and section.mode != "zero-shot"
    )
    if isinstance(section, Chronos2Settings) and trains:
        require_matching_inputs(base, section)
    if base.from_scratch and not trains:
        raise CandlecastError(f'{kind} has base = "none" and no training steps: set a base, or epochs or steps above 0')
    return base, trains


def section_of_kind(
    kind: Kind, settings: Settings
) -> TokenizerSettings | PredictorSettings | Chronos2Settings | VolatilitySettings:
    """The section of a kind of checkpoint."""
    found = getattr(settings, SECTIONS[kind])
    assert isinstance(found, TokenizerSettings | PredictorSettings | Chronos2Settings | VolatilitySettings)
    return found


def _irrelevant_keys(section: BaseModel) -> frozenset[str]:
    """The keys of a section that the weights do not depend on."""
    if isinstance(section, Chronos2Settings):
        fields = Chronos2Settings.model_fields
        return _IRRELEVANT_CHRONOS2 | {key for key in _LATER_CHRONOS2 if getattr(section, key) == fields[key].default}
    if isinstance(section, TokenizerSettings) and section.micro_batch and section.micro_batch < section.batch_size:
        # The entropy of the codes of a batch is not the mean over its micro-batches: the weights depend on their size.
        return _IRRELEVANT - {"micro_batch"}
    return _IRRELEVANT


def _later(one: date | None, other: date | None) -> date | None:
    """The later of two days; none (unknown) if one is unknown."""
    return max(one, other) if one and other else None
