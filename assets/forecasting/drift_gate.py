"""The drift gate: origins whose input has drifted are blocked, so that Kronos does not forecast from them.

One small file per blocked origin, so that concurrent runs do not overwrite each other. Not here: the drift measure
(drift).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from resources.layout import Home
from resources.publish import publish_bytes

BLOCKED_REASON = "its input has drifted, and drift.action is block"
BLOCKED = "blocked"
# The folder's name in homes of earlier versions.
_FORMER_NAME = "withheld"


def write_blocked_origins(home: Home, predictor: str, reasons: Mapping[np.datetime64, str | None]) -> None:
    """Block the origins that have a reason, and unblock those without one.

    Args:
        predictor: the digest of the predictor whose input was measured.
    """
    folder = _folder(home, predictor)
    for origin, reason in reasons.items():
        file = folder / _file_name(origin)
        if reason is not None:
            publish_bytes(file, reason.encode())
        else:
            file.unlink(missing_ok=True)


def blocked_origins(home: Home, predictor: str, origins: Sequence[np.datetime64]) -> dict[np.datetime64, str]:
    """Those of the origins that are blocked, with the reason."""
    folder = _folder(home, predictor)
    files = {origin: folder / _file_name(origin) for origin in origins}
    return {origin: file.read_text() for origin, file in files.items() if file.is_file()}


def _folder(home: Home, predictor: str) -> Path:
    folder = home.drift / predictor[:16] / BLOCKED
    former = folder.with_name(_FORMER_NAME)
    if former.is_dir() and not folder.exists():
        with suppress(FileNotFoundError):  # a concurrent run renamed it
            former.rename(folder)
    return folder


def _file_name(origin: np.datetime64) -> str:
    return re.sub(r"\D", "", str(origin.astype("datetime64[s]"))) + ".txt"
