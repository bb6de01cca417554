"""Builds a published checkpoint from settings and training windows, or finds the existing one.

A recipe holds everything that the weights depend on. A rerun with the same recipe finds the existing checkpoint, and
imports neither torch nor anything that does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assets.forecasting.known_events import export_events
from assets.training.checkpoint_request import CheckpointRequest, section_of_kind
from assets.training.data.current_windows import TrainingWindows
from assets.training.model_card import render_model_card
from assets.training.worker.job import MODEL, TrainingJob, TrainingResult
from resources.checkpoints import FROM_SCRATCH, README, Checkpoint, CheckpointStore
from resources.layout import Home
from resources.progress import Progress, silent
from resources.publish import digest_of, publish_bytes, scratch_folder
from resources.settings import Settings

VINTAGE = "vintage.json"
# What a card has of the windows' manifest; the choices of the preparation are there unless they are the defaults.
MANIFEST_KEYS = ("train", "validation", "symbols", "lookback", "horizon", "embargo")
PREPARATION = ("fill", "events")
RunJob = Callable[[TrainingJob, Progress], TrainingResult]


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


def _chosen(content: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: content[key] for key in keys if key in content}


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
        "settings": section_of_kind(request.kind, settings).model_dump(mode="json"),
        "seed": settings.seed,
        "parameters": result.parameters,
        "curves": result.curves,
        "scores": result.scores,
        "versions": result.versions,
        "device": result.device,
        "codebook_measured_on": {"validation": manifest["validation"], "data_hash": windows.digest},
    }
