"""Which model and which weights made a forecast."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelAbout:
    """Which model and which weights made a forecast.

    Attributes:
        weights: where they are from; None: the model has none.
        digest: SHA-256 of the files of a folder.
        revision: commit of a hub's repository.
    """

    model: str
    weights: str | None = None
    digest: str | None = None
    revision: str | None = None
    licence: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line that names model, weights, digest and revision."""
        named = [self.model, self.weights, self.digest and f"digest {self.digest[:16]}"]
        return ", ".join(filter(None, [*named, self.revision and f"revision {self.revision}", self.licence]))
