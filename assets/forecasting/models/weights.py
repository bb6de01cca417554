"""Published weights by hub id or folder: where they lie, and what is known of their licence and training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from resources.errors import CandlecastError, MissingWeightsError
from resources.licences import UNKNOWN
from resources.settings import Settings
from resources.stored_weights import find_stored_weights, read_json

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
        return read_json(self.folder / CONFIG)


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
    found = find_stored_weights(settings, name, revision)
    if found is None:
        raise MissingWeightsError(
            f"{name!r} is neither a folder under {settings.root} nor a hub id like amazon/chronos-2"
        )
    _require(found.folder, files)
    cutoff = found.stated or (_published(settings, name) if found.repository else None) or found.published
    return PublishedWeights(found.folder, found.identity, found.licence or UNKNOWN, cutoff)


def _require(folder: Path, files: Sequence[str]) -> None:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise CandlecastError(f"{folder} has no {', '.join(missing)}: name complete weights of this model")
