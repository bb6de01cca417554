"""The checkpoint store: weights addressed by the digest of their content, and found by the recipe that produced them.

A recipe is everything that determines the weights: settings, data hash, base, seed, code version. A recipe that was
trained before finds its checkpoint, so nothing is trained twice. Nothing is ever found by "newest file".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from resources.errors import CandlecastError
from resources.integrity import matches, set_aside
from resources.layout import Home
from resources.pointers import read_pointer, write_pointer
from resources.publish import digest_of, digest_of_folder, publish_bytes, publish_folder, scratch_folder

logger = logging.getLogger("candlecast.checkpoints")
Kind = Literal["kronos_tokenizer", "kronos_predictor", "chronos2_model", "volatility_model"]
CARD, README = "card.json", "README.md"
CURRENT, BUILT = "current.json", "made.json"
FROM_SCRATCH = "none, from scratch"
PUBLICATION = "publication"
PICTURES = ("curves.png", "codebook.png", "reconstruction.png")
# Not part of the digest: it covers the weights and their configuration only.
UNNAMED = frozenset({CARD, README, *PICTURES})


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: a folder of config.json, model.safetensors, card.json and README.md."""

    kind: Kind
    digest: str
    folder: Path
    card: Mapping[str, Any]

    @property
    def cutoff(self) -> date | None:
        """The last day whose bars influenced the weights, or bounds them (`is_bounded`). None: unknown."""
        return cutoff_of(self.card)

    @property
    def trained_until(self) -> date | None:
        """The last day of the training data; later days, up to the cutoff, were used for selection only.

        None: unknown.
        """
        return trained_until(self.card)


def cutoff_of(card: Mapping[str, Any]) -> date | None:
    """`Checkpoint.cutoff` of a card."""
    cutoff = card.get("cutoff")
    return date.fromisoformat(cutoff) if cutoff else None


def is_bounded(card: Mapping[str, Any]) -> bool:
    """Whether the cutoff of a card is the day on which the weights were published: nothing states an earlier one."""
    return card.get("cutoff_basis") == PUBLICATION


def cutoff_text(card: Mapping[str, Any]) -> str:
    """The cutoff of a card as text."""
    if not card.get("cutoff"):
        return "unknown: every forecast counts as in-sample. State the day of publication in the settings"
    return f"{card['cutoff']}, the day of publication: no cutoff is stated" if is_bounded(card) else str(card["cutoff"])


def trained_until(card: Mapping[str, Any]) -> date | None:
    """`Checkpoint.trained_until` of a card. For a card without the key it follows from the training range."""
    if "trained_until" in card:
        return date.fromisoformat(card["trained_until"]) if card["trained_until"] else None
    cutoff, training = card.get("cutoff"), card.get("training")
    if cutoff and training and training["validation"]["last"] == cutoff:
        # The base may have been trained on later data.
        cutoff = max(training["train"]["last"], (card.get("base") or {}).get("cutoff") or "")
    return date.fromisoformat(cutoff) if cutoff else None


@dataclass(frozen=True)
class CheckpointStore:
    """Checkpoints under `home.checkpoints`.

    Attributes:
        vintage: the vintage whose checkpoints in use are read and set; none: there are no vintages.
    """

    home: Home
    vintage: date | None = field(default=None, kw_only=True)

    def at(self, vintage: date | None) -> CheckpointStore:
        """The same checkpoints, with those in use of another vintage."""
        return replace(self, vintage=vintage)

    def vintages(self, kind: Kind) -> list[date]:
        """The vintages of a kind that have a checkpoint in use, oldest first."""
        files = self.home.checkpoints.glob(f"{kind}/vintages/*/{CURRENT}")
        return sorted(date.fromisoformat(file.parent.name) for file in files)

    def find(self, kind: Kind, recipe: Mapping[str, Any]) -> Checkpoint | None:
        """The checkpoint of a recipe; None: it was not trained yet, was removed, or is damaged.

        A damaged one is set aside under `<home>/damaged`, so that the caller trains it again.

        Raises:
            CandlecastError: the entry of the recipe or the card is damaged.
        """
        entry = self._recipe_file(kind, recipe)
        if not entry.is_file():
            return None
        digest = str(_read(entry, "digest", "remove it, and `candlecast run` trains the checkpoint again")["digest"])
        if not self.has(kind, digest):
            return None
        if not self.is_intact(kind, digest):
            logger.warning("%s %s was damaged; it is now in %s", kind, digest[:16], self.set_aside(kind, digest))
            return None
        return self.load(kind, digest)

    def has(self, kind: Kind, digest: str) -> bool:
        """Whether the store has a checkpoint with this (full) digest."""
        return bool(digest) and (self.home.checkpoints / kind / digest).is_dir()

    def is_intact(self, kind: Kind, digest: str) -> bool:
        """Whether weights and configuration match the digest; computed once per process and state of the files."""
        return matches(self.home.checkpoints / kind / digest, digest, UNNAMED)

    def set_aside(self, kind: Kind, digest: str) -> Path:
        """Move a damaged checkpoint to `<home>/damaged`, and return its new folder."""
        return set_aside(self.home.checkpoints / kind / digest, self.home.root)

    def load(self, kind: Kind, digest: str) -> Checkpoint:
        """A checkpoint by its digest or an unambiguous prefix of at least 8 characters.

        Raises:
            CandlecastError: no checkpoint matches, or several do; its files do not match its digest; its card is
                damaged.
        """
        found = self._named(kind, digest)
        if not self.is_intact(kind, found.digest):
            raise CandlecastError(
                f"{found.folder} is damaged, its files do not match its digest: `candlecast doctor --repair` sets it "
                "aside and trains it again"
            )
        return found

    def _named(self, kind: Kind, digest: str) -> Checkpoint:
        """A checkpoint by its digest or a prefix, with its card; its other files are not read."""
        root = self.home.checkpoints / kind
        if len(digest) < 8:
            raise CandlecastError(f"digest {digest!r} is too short: give at least 8 characters")
        found = [folder for folder in root.glob("*") if folder.is_dir() and folder.name.startswith(digest)]
        if len(found) != 1:
            remedy = "give more characters" if found else "restore its folder, or train it again with `candlecast run`"
            raise CandlecastError(f"{len(found)} {kind} checkpoints in {root} match {digest!r}: {remedy}")
        remedy = f"restore it from a backup, or remove the folder {found[0]} and train it again with `candlecast run`"
        return Checkpoint(kind, found[0].name, found[0], _read(found[0] / CARD, "digest", remedy))

    def publish(
        self, kind: Kind, recipe: Mapping[str, Any], write: Callable[[Path], object], card: Mapping[str, Any]
    ) -> Checkpoint:
        """Publish the files that `write(folder)` creates in an empty folder, under the digest of their content.

        `card` is stored with them as card.json, with kind, digest and recipe added. `write` may create a README.md.
        """
        with scratch_folder(self.home.scratch / "checkpoints") as folder:
            write(folder)
            digest = digest_of_folder(folder, UNNAMED)
            full = {**card, "kind": kind, "digest": digest, "recipe": dict(recipe)}
            publish_bytes(folder / CARD, json.dumps(full, indent=1, default=str).encode())
            publish_folder(folder, self.home.checkpoints / kind / digest)
        publish_bytes(
            self._recipe_file(kind, recipe),
            json.dumps({"digest": digest, "recipe": dict(recipe)}, indent=1, default=str).encode(),
        )
        return self.load(kind, digest)

    def update_card(self, checkpoint: Checkpoint, changes: Mapping[str, Any]) -> Checkpoint:
        """Change what the card states of the weights; weights and digest stay."""
        card = {**checkpoint.card, **changes}
        publish_bytes(checkpoint.folder / CARD, json.dumps(card, indent=1, default=str).encode())
        return self.load(checkpoint.kind, checkpoint.digest)

    def current(self, kind: Kind) -> Checkpoint | None:
        """The checkpoint in use for forecasts, set by `set_current`; None: not set yet."""
        return self._pointed(kind, CURRENT)

    def current_digest(self, kind: Kind) -> str | None:
        """The digest of the checkpoint in use, whether it still exists or not."""
        return self._digest_in(kind, CURRENT)

    def set_current(self, kind: Kind, digest: str) -> Checkpoint:
        """Put a checkpoint in use for forecasts, atomically.

        Raises:
            CandlecastError: there is no such checkpoint.
        """
        return self._point(kind, digest, CURRENT)

    def built(self, kind: Kind) -> Checkpoint | None:
        """The checkpoint that was built last, whether it is in use or not; None: none yet."""
        return self._pointed(kind, BUILT)

    def set_built(self, kind: Kind, digest: str) -> Checkpoint:
        """Record the checkpoint that was built last, atomically."""
        return self._point(kind, digest, BUILT)

    def all(self, kind: Kind) -> list[Checkpoint]:
        """All checkpoints of a kind, sorted by digest; their weights are not verified."""
        root = self.home.checkpoints / kind
        return [self._named(kind, folder.name) for folder in sorted(root.glob("*")) if (folder / CARD).is_file()]

    def _pointed(self, kind: Kind, name: str) -> Checkpoint | None:
        digest = self._digest_in(kind, name)
        return None if digest is None else self.load(kind, digest)

    def _digest_in(self, kind: Kind, name: str) -> str | None:
        return read_pointer(self.home.pointers(kind, self.vintage) / name)

    def _point(self, kind: Kind, digest: str, name: str) -> Checkpoint:
        checkpoint = self.load(kind, digest)
        write_pointer(self.home.pointers(kind, self.vintage) / name, checkpoint.digest)
        return checkpoint

    def _recipe_file(self, kind: Kind, recipe: Mapping[str, Any]) -> Path:
        return self.home.checkpoints / kind / "recipes" / f"{digest_of(recipe)}.json"


def _read(file: Path, key: str, remedy: str) -> dict[str, Any]:
    """The content of a JSON file that must contain a key."""
    try:
        values = json.loads(file.read_text())
        if not isinstance(values, dict) or key not in values:
            raise ValueError(f"no JSON object with {key!r}")
    except (OSError, ValueError) as error:
        raise CandlecastError(f"{file} is damaged ({error}): {remedy}") from error
    return values


def weights_in_use(card: Mapping[str, Any]) -> str:
    """The selected weights of a training run, such as "step 2000" or "the base, unchanged", as text."""
    chosen = str(card["scores"].get("chosen") or f"step {card['curves']['best_step']}")
    if chosen in ("base", "step 0") and card["base"]["weights"] != FROM_SCRATCH:
        return "the base, unchanged (no step was better)"
    return chosen
