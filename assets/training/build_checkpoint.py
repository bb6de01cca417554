"""From settings and windows to a published checkpoint: what is made already is found, the rest is fitted.

The recipe is everything that decides the weights. A rerun with the same recipe finds what it made, and imports
neither torch nor anything that does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from assets.training.fit.base_weights import Base, base_of, require_shape
from assets.training.model_card import model_card
from assets.training.worker.job import MODEL, Job, Result
from assets.training.worker.pipes_client import run_job
from resources.checkpoints import FROM_SCRATCH, README, Checkpoint, CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.layout import Home
from resources.pointers import read_pointer, write_pointer
from resources.progress import Progress, silent
from resources.publish import digest_of, publish_bytes, scratch_folder
from resources.settings import Chronos2Settings, FitSettings, PredictorSettings, Settings, TokenizerSettings

RECIPE_VERSION = 2
# Keys that decide no weight: where the base lies (its digest does), what blocks, how much fits at once.
_NO_MATTER = frozenset({"base", "revision", "micro_batch", "min_codebook_use", "max_reconstruction"})
RunJob = Callable[[Job, Progress], Result]


@dataclass(frozen=True)
class Windows:
    """The training arrays in use: a folder named by its digest."""

    digest: str
    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return manifest


def current_windows(home: Home) -> Windows:
    """The windows that `training_windows` named last.

    Raises:
        CandlecastError: there are none yet.
    """
    digest = read_pointer(home.windows / "current.json")
    if digest is None:
        raise CandlecastError("there are no training windows yet: materialise the asset `training_windows` first")
    return Windows(digest, home.windows / digest)


def set_current_windows(home: Home, digest: str) -> None:
    """Name the windows in use; naming them again writes nothing."""
    write_pointer(home.windows / "current.json", digest)


@dataclass(frozen=True)
class Order:
    """One checkpoint that is wanted: the recipe that finds it, and the job that makes it."""

    kind: Kind
    recipe: dict[str, Any]
    base: Base
    learns: bool
    tokenizer: Checkpoint | None = None

    def cutoff(self, settings: Settings) -> date | None:
        """The last day whose bars reach the weights."""
        own = self.base.cutoff_with(settings.windows.cutoff if self.learns else None)
        return own if self.tokenizer is None else _later(own, self.tokenizer.cutoff)

    def trained_until(self, settings: Settings) -> date | None:
        """The last day whose bars move the weights."""
        own = self.base.trained_with(settings.windows.train[1] if self.learns else None)
        return own if self.tokenizer is None else _later(own, self.tokenizer.trained_until)


def order_of(kind: Kind, settings: Settings, windows: Windows, tokenizer: Checkpoint | None = None) -> Order:
    """What the settings want of a kind.

    Args:
        tokenizer: the frozen tokenizer, for a predictor.

    Raises:
        CandlecastError: the base is named and not there; a predictor without a tokenizer.
    """
    if kind == "kronos_predictor" and tokenizer is None:
        raise CandlecastError("a predictor needs its tokenizer: materialise the asset `kronos_tokenizer` first")
    section = _section(kind, settings)
    base = base_of(kind, section.base, section.revision, settings.root)
    require_shape(kind, base, section)
    learns = (
        section.epochs > 0 if isinstance(section, FitSettings) else section.steps > 0 and section.mode != "zero-shot"
    )
    if base.from_scratch and not learns:
        raise CandlecastError(f'{kind} has base = "none" and nothing to learn: name a base, or give it epochs or steps')
    recipe: dict[str, Any] = {"version": RECIPE_VERSION, "kind": kind, "base": base.digest}
    if tokenizer is not None:
        recipe["tokenizer"] = tokenizer.digest
    if kind != "chronos2_model":
        recipe["clip"] = settings.windows.clip
    if learns:
        recipe |= {
            "settings": section.model_dump(mode="json", exclude=_no_matter(section)),
            "data": windows.digest,
            "seed": settings.seed,
            "dtype": settings.compute.dtype,
            "processes": settings.compute.processes * settings.compute.nodes,
        }
    return Order(kind, recipe, base, learns, tokenizer)


def make_checkpoint(
    order: Order,
    settings: Settings,
    home: Home,
    store: CheckpointStore,
    windows: Windows,
    progress: Progress = silent,
    run: RunJob = run_job,
) -> Checkpoint:
    """The checkpoint of an order: found, or fitted in a process of its own and published.

    Raises:
        CandlecastError: the fit failed; what was there before stays.
    """
    found = store.find(order.kind, order.recipe)
    if found is not None:
        return found
    work = home.scratch / "fits" / digest_of(order.recipe)[:24]
    with scratch_folder(home.scratch / "made") as out:
        result = run(_job(order, settings, windows, work, out), progress)
        card = _card(order, settings, windows, result)

        def write(folder: Path) -> None:
            shutil.copytree(out / MODEL, folder, dirs_exist_ok=True)
            publish_bytes(folder / README, model_card(card).encode())

        made = store.publish(order.kind, order.recipe, write, card)
    shutil.rmtree(work, ignore_errors=True)
    return made


def _no_matter(section: BaseModel) -> set[str]:
    """The keys that decide no weight of a section's model."""
    if isinstance(section, TokenizerSettings) and section.micro_batch and section.micro_batch < section.batch_size:
        # The entropy of a batch's codes is not the mean of its parts': here the parts decide.
        return set(_NO_MATTER - {"micro_batch"})
    return set(_NO_MATTER)


def _later(one: date | None, other: date | None) -> date | None:
    """The later of two days; none, not known, where one is not known."""
    return max(one, other) if one and other else None


def _section(kind: Kind, settings: Settings) -> TokenizerSettings | PredictorSettings | Chronos2Settings:
    if kind == "kronos_tokenizer":
        return settings.tokenizer
    return settings.predictor if kind == "kronos_predictor" else settings.chronos2


def _job(order: Order, settings: Settings, windows: Windows, work: Path, out: Path) -> Job:
    return Job(
        kind=order.kind,
        seed=settings.seed,
        windows=settings.windows,
        tokenizer_settings=settings.tokenizer,
        predictor_settings=settings.predictor,
        chronos2_settings=settings.chronos2,
        compute=settings.compute,
        arrays=windows.folder,
        base=order.base.source,
        revision=order.base.revision,
        tokenizer=order.tokenizer.folder if order.tokenizer else None,
        work=work,
        out=out,
    )


def _card(order: Order, settings: Settings, windows: Windows, result: Result) -> dict[str, Any]:
    cutoff, trained_until = order.cutoff(settings), order.trained_until(settings)
    manifest = windows.manifest
    return {
        "name": f"candlecast {order.kind.replace('_', ' ')}",
        "licence": "MIT" if order.base.from_scratch else order.base.licence,
        "base": {
            "weights": order.base.note or order.base.source or FROM_SCRATCH,
            "revision": order.base.revision,
            "digest": order.base.digest,
            "licence": order.base.licence,
            "cutoff": order.base.cutoff.isoformat() if order.base.cutoff else None,
        },
        "tokenizer": order.tokenizer.digest if order.tokenizer else None,
        "cutoff": cutoff.isoformat() if cutoff else None,
        "trained_until": trained_until.isoformat() if trained_until else None,
        "training": {key: manifest[key] for key in ("train", "validation", "symbols", "lookback", "horizon", "embargo")}
        if order.learns
        else None,
        "data_hash": windows.digest if order.learns else None,
        "normalisation": {"clip": settings.windows.clip},
        "settings": _section(order.kind, settings).model_dump(mode="json"),
        "seed": settings.seed,
        "parameters": result.parameters,
        "curves": result.curves,
        "scores": result.scores,
        "versions": result.versions,
        "device": result.device,
        "codebook_measured_on": {"validation": manifest["validation"], "data_hash": windows.digest},
    }
