"""Builds a published checkpoint from settings and training windows, or finds the existing one.

A recipe holds everything that the weights depend on. A rerun with the same recipe finds the existing checkpoint, and
imports neither torch nor anything that does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from assets.forecasting.chronos2.input_settings import events_recipe, inputs_recipe
from assets.forecasting.known_events import export_events
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
from assets.training.model_card import render_model_card
from assets.training.worker.job import MODEL, TrainingJob, TrainingResult
from resources.checkpoints import FROM_SCRATCH, PUBLICATION, README, Checkpoint, CheckpointStore, Kind, is_bounded
from resources.errors import CandlecastError
from resources.layout import Home
from resources.licences import refusal
from resources.progress import Progress, silent
from resources.publish import digest_of, publish_bytes, scratch_folder
from resources.settings import (
    Chronos2Settings,
    FitSettings,
    PredictorSettings,
    Settings,
    TokenizerSettings,
    VolatilitySettings,
)

RECIPE_VERSION = 2
VINTAGE = "vintage.json"
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
# What a card has of the windows' manifest; the choices of the preparation are there unless they are the defaults.
MANIFEST_KEYS = ("train", "validation", "symbols", "lookback", "horizon", "embargo")
PREPARATION = ("fill", "events")
RunJob = Callable[[TrainingJob, Progress], TrainingResult]


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
    section = _section(kind, settings)
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
    section = _section(kind, settings)
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


def build_checkpoint(
    request: CheckpointRequest,
    settings: Settings,
    home: Home,
    store: CheckpointStore,
    windows: TrainingWindows,
    progress: Progress = silent,
    run: RunJob | None = None,
) -> Checkpoint:
    """The requested checkpoint: the existing one, or a new one trained in a process of its own and published.

    Args:
        run: none: `pipes_client.run_job`.

    Raises:
        CandlecastError: training failed; existing checkpoints are untouched.
    """
    existing = store.find(request.kind, request.recipe)
    if existing is not None:
        return _current_card(existing, request, settings, store)
    from assets.training.worker.pipes_client import run_job

    work = home.scratch / "fits" / digest_of(request.recipe)[:24]
    with scratch_folder(home.scratch / "models") as out:
        result = (run or run_job)(_job(request, settings, windows, work, out), progress)
        card = _card(request, settings, windows, result)

        def write(folder: Path) -> None:
            shutil.copytree(out / MODEL, folder, dirs_exist_ok=True)
            if "vintage" in request.recipe:
                # Part of the digest: equal weights of two vintages, such as an unchanged base, keep a card each.
                publish_bytes(folder / VINTAGE, json.dumps({"vintage": request.recipe["vintage"]}).encode())
            publish_bytes(folder / README, render_model_card(card).encode())

        checkpoint = store.publish(request.kind, request.recipe, write, card)
    shutil.rmtree(work, ignore_errors=True)
    return _current_card(checkpoint, request, settings, store)


def _current_card(
    checkpoint: Checkpoint, request: CheckpointRequest, settings: Settings, store: CheckpointStore
) -> Checkpoint:
    """The checkpoint, whose card states what is known of its base now: a date or licence may have been added since."""
    dates, card = request.dates(settings), checkpoint.card
    known = {"cutoff": dates["cutoff"], "cutoff_basis": dates["cutoff_basis"], "licence": request.licence}
    if all(card.get(key) == value for key, value in known.items()):
        return checkpoint
    base = {**card["base"], "licence": request.base.licence}
    updated = store.update_card(checkpoint, {**dates, "licence": request.licence, "base": base})
    publish_bytes(updated.folder / README, render_model_card(updated.card).encode())
    return updated


def _irrelevant_keys(section: BaseModel) -> frozenset[str]:
    """The keys of a section that the weights do not depend on."""
    if isinstance(section, Chronos2Settings):
        fields = Chronos2Settings.model_fields
        return _IRRELEVANT_CHRONOS2 | {key for key in _LATER_CHRONOS2 if getattr(section, key) == fields[key].default}
    if isinstance(section, TokenizerSettings) and section.micro_batch and section.micro_batch < section.batch_size:
        # The entropy of the codes of a batch is not the mean over its micro-batches: the weights depend on their size.
        return _IRRELEVANT - {"micro_batch"}
    return _IRRELEVANT


def _chosen(content: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: content[key] for key in keys if key in content}


def _later(one: date | None, other: date | None) -> date | None:
    """The later of two days; none (unknown) if one is unknown."""
    return max(one, other) if one and other else None


def _section(
    kind: Kind, settings: Settings
) -> TokenizerSettings | PredictorSettings | Chronos2Settings | VolatilitySettings:
    found = getattr(settings, SECTIONS[kind])
    assert isinstance(found, TokenizerSettings | PredictorSettings | Chronos2Settings | VolatilitySettings)
    return found


def _job(
    request: CheckpointRequest, settings: Settings, windows: TrainingWindows, work: Path, out: Path
) -> TrainingJob:
    return TrainingJob(
        kind=request.kind,
        # A training process opens no warehouse, whose URI may hold a password.
        settings=export_events(settings, work).model_copy(update={"warehouse": None}),
        arrays=windows.folder,
        base=request.base.source,
        tokenizer=request.tokenizer.folder if request.tokenizer else None,
        work=work,
        out=out,
    )


def _card(
    request: CheckpointRequest, settings: Settings, windows: TrainingWindows, result: TrainingResult
) -> dict[str, Any]:
    manifest = windows.manifest
    return {
        "name": f"candlecast {request.kind.replace('_', ' ')}",
        "licence": request.licence,
        "base": {
            "weights": request.base.note or request.base.source or FROM_SCRATCH,
            "revision": request.base.revision,
            "digest": request.base.digest,
            "licence": request.base.licence,
            "cutoff": request.base.cutoff.isoformat() if request.base.cutoff else None,
        },
        "tokenizer": request.tokenizer.digest if request.tokenizer else None,
        **request.dates(settings),
        "training": _chosen(manifest, (*MANIFEST_KEYS, *PREPARATION)) if request.trains else None,
        "trained_lookback": manifest.get("lookback") if request.trains else request.base.trained_lookback,
        "data_hash": windows.digest if request.trains else None,
        "normalisation": {"clip": settings.windows.clip, **_chosen(request.recipe, ("missing_volume",))},
        "settings": _section(request.kind, settings).model_dump(mode="json"),
        "seed": settings.seed,
        "parameters": result.parameters,
        "curves": result.curves,
        "scores": result.scores,
        "versions": result.versions,
        "device": result.device,
        "codebook_measured_on": {"validation": manifest["validation"], "data_hash": windows.digest},
    }
