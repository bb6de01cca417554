"""Weights in a folder or on the hub, by the name that a setting or option has: their folder, identity, licence, cutoff.

Not here: the checkpoints of a home (checkpoints), and which repositories it has pinned (hub_models).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from resources.checkpoints import CARD, UNNAMED, cutoff_of, is_bounded
from resources.errors import CandlecastError
from resources.hub_models import STATED_CUTOFFS, hub_name, pinned_model
from resources.publish import digest_of_folder
from resources.settings import Settings


@dataclass(frozen=True)
class StoredWeights:
    """Weights in a folder; those of a hub id are in the cache of the hub.

    Attributes:
        card: content of their card.json; empty: they have none.
        licence: as the repository or the card states it; None: neither does.
        stated: the last day whose data influenced them, as their card or their authors state it.
        published: the day of their publication, which bounds it.
        repository: hub id and commit; None: a folder.
    """

    folder: Path
    card: Mapping[str, Any]
    licence: str | None
    stated: date | None
    published: date | None
    repository: str | None = None
    commit: str | None = None

    @cached_property
    def identity(self) -> str:
        """What determines the weights: hub id and commit, or the digest of the folder."""
        return f"{self.repository}@{self.commit}" if self.repository else digest_of_folder(self.folder, UNNAMED)

    @property
    def cutoff(self) -> date | None:
        """The last day whose data may have influenced them; None: not known."""
        return self.stated or self.published


def find_stored_weights(settings: Settings, name: str, revision: str | None) -> StoredWeights | None:
    """The weights of a name; None: it is neither a folder nor a hub id.

    Args:
        name: a folder (absolute, or relative to the settings file), or a hub id, at the commit that the home has
            pinned (`candlecast fetch`).
        revision: of a hub id; None: the main branch.

    Raises:
        CandlecastError: it was not fetched, or a file is damaged.
    """
    folder = settings.root / Path(name).expanduser()
    if folder.is_dir():
        return folder_weights(folder)
    return hub_weights(settings, name, revision) if hub_name(name, settings.root) else None


def folder_weights(folder: Path) -> StoredWeights:
    """The weights of an existing folder.

    Raises:
        CandlecastError: its card is damaged.
    """
    card = _card(folder)
    stated, published = (None, cutoff_of(card)) if is_bounded(card) else (cutoff_of(card), None)
    return StoredWeights(folder, card, card.get("licence"), stated, published)


def hub_weights(settings: Settings, repository: str, revision: str | None) -> StoredWeights:
    """The weights of a hub id at the commit that the home has pinned.

    Raises:
        CandlecastError: it was not fetched, or a file is damaged.
    """
    model = pinned_model(settings, repository, revision)
    card = _card(model.folder)
    stated = (None if is_bounded(card) else cutoff_of(card)) or STATED_CUTOFFS.get(repository)
    licence = model.licence or card.get("licence")
    return StoredWeights(model.folder, card, licence, stated, model.published, repository, model.commit)


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file of weights.

    Raises:
        CandlecastError: it is damaged.
    """
    try:
        values = json.loads(file.read_text())
    except ValueError as error:  # not JSON, or not UTF-8
        raise CandlecastError(f"{file} is damaged: {error}. Restore the folder from its source") from error
    if not isinstance(values, dict):
        raise CandlecastError(f"{file} is damaged: no JSON object. Restore the folder from its source")
    return values


def _card(folder: Path) -> dict[str, Any]:
    return read_json(folder / CARD) if (folder / CARD).is_file() else {}
