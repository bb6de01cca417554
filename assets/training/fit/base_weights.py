"""Base weights: what a fit starts from, under an identifier that is stable, with provenance."""

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
# The published Kronos weights: bars to June 2024; whether their normalisation leaked is not known (issue 227 there).
KRONOS_CUTOFF = date(2024, 6, 30)


@dataclass(frozen=True)
class BaseWeights:
    """Weights to start from.

    Attributes:
        source: a folder or a hub name; none: from scratch.
        digest: identifies them in a recipe.
        cutoff: the last day whose bars influenced them, by training or selection; none: unknown, or from scratch.
        trained_until: the last day whose bars they were trained on, at most the cutoff; none: as for the cutoff.
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

    def cutoff_after(self, cutoff: date | None) -> date | None:
        """The cutoff after training on bars up to `cutoff` (none: no training)."""
        return self._latest(self.cutoff, cutoff)

    def trained_until_after(self, trained_until: date | None) -> date | None:
        """`trained_until` after training on bars up to `trained_until` (none: no training)."""
        return self._latest(self.trained_until, trained_until)

    def _latest(self, own: date | None, later: date | None) -> date | None:
        if self.from_scratch:
            return later
        if own is None or later is None:
            return own
        return max(own, later)


def resolve_base(kind: Kind, name: str, revision: str | None, root: Path) -> BaseWeights:
    """The base weights for the settings' `base`.

    Args:
        name: "none", "packaged", a folder (absolute, or relative to `root`), or a hub name.

    Raises:
        CandlecastError: `name` is none of these.
    """
    if name == NONE:
        return BaseWeights(None, NONE)
    if name == PACKAGED:
        folder = WEIGHTS / kind
        if not (folder / CARD).is_file():
            raise CandlecastError(f"there are no packaged weights of {kind} in {folder}: install candlecast again")
        return _from_folder(folder)
    folder = root / Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(folder)
    if _HUB_NAME.fullmatch(name) and not name.startswith((".", "/")):
        return _from_hub(name, revision)
    raise CandlecastError(
        f"the base {name!r} of {kind} is neither a folder under {root} nor a hub name: set it to "
        '"none", "packaged", a folder with config.json and model.safetensors, or a name such as NeoQuasar/Kronos-small'
    )


def require_matching_shape(kind: Kind, base: BaseWeights, section: BaseModel) -> None:
    """Refuse a shape in the settings that differs from that of the base: it would be ignored.

    A base on a hub is not checked.

    Raises:
        CandlecastError: with the key and both values.
    """
    config = Path(base.source or "") / "config.json"
    if base.source is None or not config.is_file():
        return
    built = _read_json(config)
    fields = type(section).model_fields
    for key in sorted(fields.keys() & built.keys()):
        value = getattr(section, key)
        if value not in (built[key], fields[key].default):
            name = kind.removeprefix("kronos_").removesuffix("_model")
            raise CandlecastError(
                f"{name}.{key} = {value}, but the base {base.source} was built with {built[key]}: leave the key out, "
                f'or set {name}.base = "none" to train from scratch'
            )


def different_tokens(reads: tuple[int, int], writes: tuple[int, int]) -> str:
    """Why a predictor cannot start from a base: the bits of the tokens that it reads, and those of the tokenizer."""
    return (
        f"reads tokens of {reads[0]} + {reads[1]} bits, the tokenizer writes {writes[0]} + {writes[1]}: set "
        "predictor.base and tokenizer.base to weights of one family"
    )


def _from_folder(folder: Path) -> BaseWeights:
    card = _read_json(folder / CARD) if (folder / CARD).is_file() else {}
    cutoff = card.get("cutoff")
    return BaseWeights(
        source=str(folder),
        digest=digest_of_folder(folder, UNNAMED),
        cutoff=date.fromisoformat(cutoff) if cutoff else None,
        licence=card.get("licence", "unknown: see the folder"),
        note=card.get("name", ""),
        trained_until=trained_until(card),
    )


def _from_hub(name: str, revision: str | None) -> BaseWeights:
    digest = f"hub:{name}@{revision or 'main'}"
    if name.startswith("NeoQuasar/"):
        note = "published Kronos weights; whether their training normalisation leaked is not known"
        return BaseWeights(name, digest, revision, KRONOS_CUTOFF, "MIT", note, KRONOS_CUTOFF)
    if name.startswith("amazon/"):
        note = "published weights; the end of their data is not known"
        return BaseWeights(name, digest, revision, None, "Apache-2.0", note)
    return BaseWeights(name, digest, revision, None, "unknown: see the hub")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text())
    except ValueError as error:  # not JSON, or not UTF-8
        raise CandlecastError(f"{file} of the base is damaged: {error}. Restore the folder from its source") from error
    if not isinstance(values, dict):
        raise CandlecastError(f"{file} of the base is damaged: no JSON object. Restore the folder from its source")
    return values
