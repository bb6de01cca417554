"""Which weights a fit starts from, under a name that identifies them, and what is known of where they come from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from resources.checkpoints import CARD, UNNAMED, Kind, trained_until
from resources.errors import CandlecastError
from resources.publish import digest_of_folder

NONE, PACKAGED = "none", "packaged"
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# The open Kronos weights: bars to June 2024; whether their normalisation leaked is not known (issue 227 there).
KRONOS_UNTIL = date(2024, 6, 30)


@dataclass(frozen=True)
class Base:
    """Weights to start from.

    Attributes:
        source: a folder or a hub name; none: from scratch.
        digest: what a recipe knows them by.
        cutoff: the last day whose bars reached them; none: unknown, or from scratch.
        trained_until: the last day whose bars moved them, at most the cutoff; none: as the cutoff's.
    """

    source: str | None
    digest: str
    revision: str | None = None
    cutoff: date | None = None
    licence: str = "MIT"
    note: str = ""
    trained_until: date | None = None

    @property
    def from_scratch(self) -> bool:
        return self.source is None

    def cutoff_with(self, learnt_until: date | None) -> date | None:
        """The cutoff of weights that go on from these with bars up to `learnt_until` (none: with none)."""
        return self._gone_on(self.cutoff, learnt_until)

    def trained_with(self, moved_until: date | None) -> date | None:
        """Until when bars moved weights that go on from these, moved by bars up to `moved_until` (none: by none)."""
        return self._gone_on(self.trained_until, moved_until)

    def _gone_on(self, own: date | None, later: date | None) -> date | None:
        if self.from_scratch:
            return later
        if own is None or later is None:
            return own
        return max(own, later)


def base_of(kind: Kind, named: str, revision: str | None, root: Path) -> Base:
    """The base that the settings name.

    Args:
        named: "none", "packaged", a folder (absolute, or relative to `root`), or a hub name.

    Raises:
        CandlecastError: it is none of these.
    """
    if named == NONE:
        return Base(None, NONE)
    if named == PACKAGED:
        folder = WEIGHTS / kind
        if not (folder / CARD).is_file():
            raise CandlecastError(f"there are no packaged weights of {kind} in {folder}: install candlecast again")
        return _folder(folder)
    folder = root / Path(named).expanduser()
    if folder.is_dir():
        return _folder(folder)
    if _HUB_NAME.fullmatch(named) and not named.startswith((".", "/")):
        return _hub(named, revision)
    raise CandlecastError(
        f'the base {named!r} of {kind} is no folder under {root} and no hub name: say "none", "packaged", a folder '
        "with config.json and model.safetensors, or a name such as NeoQuasar/Kronos-small"
    )


def require_shape(kind: Kind, base: Base, section: BaseModel) -> None:
    """Refuse a shape that the settings ask for and the base does not have: it would be ignored.

    Raises:
        CandlecastError: naming the key and both values. A base on a hub is not looked at.
    """
    config = Path(base.source or "") / "config.json"
    if base.source is None or not config.is_file():
        return
    built = _read(config)
    fields = type(section).model_fields
    for key in sorted(fields.keys() & built.keys()):
        asked = getattr(section, key)
        if asked not in (built[key], fields[key].default):
            name = kind.removeprefix("kronos_").removesuffix("_model")
            raise CandlecastError(
                f"{name}.{key} = {asked}, but the base {base.source} was built with {built[key]}: leave the key out, "
                f'or say {name}.base = "none" to train from scratch'
            )


def _folder(folder: Path) -> Base:
    card = _read(folder / CARD) if (folder / CARD).is_file() else {}
    cutoff = card.get("cutoff")
    return Base(
        source=str(folder),
        digest=digest_of_folder(folder, UNNAMED),
        cutoff=date.fromisoformat(cutoff) if cutoff else None,
        licence=card.get("licence", "unknown: see the folder"),
        note=card.get("name", ""),
        trained_until=trained_until(card),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text())
    except ValueError as error:  # no JSON, or no UTF-8
        raise CandlecastError(
            f"{file} of the base is damaged: {error}. Bring the folder back from where it came"
        ) from error
    if not isinstance(values, dict):
        raise CandlecastError(f"{file} of the base holds no JSON object. Bring it back from where it came")
    return values


def _hub(name: str, revision: str | None) -> Base:
    digest = f"hub:{name}@{revision or 'main'}"
    if name.startswith("NeoQuasar/"):
        note = "published Kronos weights; whether their training normalisation leaked is not known"
        return Base(name, digest, revision, KRONOS_UNTIL, "MIT", note, KRONOS_UNTIL)
    if name.startswith("amazon/"):
        return Base(name, digest, revision, None, "Apache-2.0", "published weights; the end of their data is not known")
    return Base(name, digest, revision, None, "unknown: see the hub")
