"""The training windows in use: a folder of arrays in the home, of all or of one vintage.

Not here: how windows are cut (windows), and how their arrays are stored and read (dataset).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from resources.errors import CandlecastError
from resources.integrity import is_intact
from resources.layout import Home
from resources.pointers import read_pointer, write_pointer


@dataclass(frozen=True)
class TrainingWindows:
    """A folder of training arrays, named by its digest."""

    digest: str
    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return manifest


def current_windows(home: Home, vintage: date | None = None) -> TrainingWindows:
    """The windows that the asset `training_windows` built last, of all or of one vintage.

    Raises:
        CandlecastError: there are none yet, or they are damaged.
    """
    digest = read_pointer(home.current_windows(vintage))
    if digest is None:
        raise CandlecastError("there are no training windows yet: materialise the asset `training_windows` first")
    if not is_intact(home.windows / digest):
        raise CandlecastError(
            f"{home.windows / digest} is damaged: materialise `training_windows`, which makes it again, or run "
            "`candlecast doctor --repair`"
        )
    return TrainingWindows(digest, home.windows / digest)


def set_current_windows(home: Home, digest: str, vintage: date | None = None) -> None:
    """Set the windows in use; writes nothing if they already are."""
    write_pointer(home.current_windows(vintage), digest)
