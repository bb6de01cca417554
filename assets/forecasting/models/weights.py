"""Published weights by hub id or folder: where they lie, and what is known of their licence and training data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from resources.checkpoints import CARD, UNNAMED, cutoff_of
from resources.errors import CandlecastError, MissingWeightsError
from resources.hub_models import STATED_CUTOFFS, hub_name, pinned_model
from resources.licences import UNKNOWN
from resources.publish import digest_of_folder
from resources.settings import Settings

CONFIG, SAFETENSORS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class PublishedWeights:
    """Weights in a folder.

    Attributes:
        identity: determines the weights: hub id and commit, or the digest of the folder.
        licence: SPDX identifier, or "unknown".
        cutoff: the last day whose data may have influenced them: as their card or authors state it, else the day of
            their publication, in the settings or of the hub's commit; None: not known.
    """

    folder: Path
    identity: str
    licence: str
    cutoff: date | None

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return dict(json.loads((self.folder / CONFIG).read_text()))


def _published(settings: Settings, name: str) -> date | None:
    """The publication that the settings state of a hub id, by `published` of a model or as the weights of a vintage."""
    stated = [one.published for one in settings.models.values() if one.published and name in one.options.values()]
    return max(stated, default=None)


def find_weights(
    settings: Settings, name: str, revision: str | None, files: Sequence[str] = (CONFIG, SAFETENSORS)
) -> PublishedWeights:
    """The weights of a folder, or of a hub id at the commit that the home has pinned (`candlecast fetch`).

    Args:
        name: a folder (absolute, or relative to the settings file), or a hub id.
        revision: of a hub id; None: the main branch.
        files: the files that it must have.

    Raises:
        MissingWeightsError: there is no such folder, or it was not fetched.
        CandlecastError: a file is missing or altered.
    """
    if hub_name(name, settings.root):
        model = pinned_model(settings, name, revision)
        _require(model.folder, files)
        cutoff = STATED_CUTOFFS.get(name) or _published(settings, name) or model.published
        return PublishedWeights(model.folder, f"{name}@{model.commit}", model.licence or UNKNOWN, cutoff)
    folder = settings.root / Path(name).expanduser()
    if not folder.is_dir():
        raise MissingWeightsError(
            f"{name!r} is neither a folder under {settings.root} nor a hub id like amazon/chronos-2"
        )
    _require(folder, files)
    card = json.loads((folder / CARD).read_text()) if (folder / CARD).is_file() else {}
    identity = digest_of_folder(folder, UNNAMED)
    return PublishedWeights(folder, identity, str(card.get("licence", UNKNOWN)), cutoff_of(card))


def _require(folder: Path, files: Sequence[str]) -> None:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise CandlecastError(f"{folder} has no {', '.join(missing)}: name complete weights of this model")
