"""The drift gate: origins whose input has drifted are blocked, so that Kronos does not forecast from them.

One small file per blocked origin, so that concurrent runs do not overwrite each other. Not here: the drift measure
(drift).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

import numpy as np

from resources.candlecast import Candlecast
from resources.layout import Home
from resources.publish import publish_bytes
from resources.vintages import first_vintage, has_vintages, vintage_of

BLOCKED_REASON = "its input has drifted, and drift.action is block"
BLOCKED = "blocked"
# And what is calibrated from it.
BLOCKED_MODEL = "kronos"
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


def blocked_by_drift(candlecast: Candlecast, sessions: Sequence[date]) -> dict[np.datetime64, str]:
    """The origins of those of the sessions that are blocked for Kronos, with the reason.

    None unless `drift.action` is "block". With vintages the predictor of each session's vintage counts; a session
    before the first one is not blocked.
    """
    settings, calendar = candlecast.settings, candlecast.calendar
    if settings.drift.action != "block":
        return {}
    origins: dict[date | None, list[np.datetime64]] = {}
    for session in sessions:
        if has_vintages(settings.windows) and session < first_vintage(settings.windows):
            continue
        origin = calendar.stamps(session, session)[-1].to_datetime64().astype("datetime64[s]")
        origins.setdefault(vintage_of(settings.windows, session), []).append(origin)
    blocked: dict[np.datetime64, str] = {}
    for vintage, own in origins.items():
        predictor = candlecast.checkpoints.at(vintage).current_digest("kronos_predictor")
        blocked |= blocked_origins(candlecast.home, predictor, own) if predictor else {}
    return blocked


def _folder(home: Home, predictor: str) -> Path:
    folder = home.drift / predictor[:16] / BLOCKED
    former = folder.with_name(_FORMER_NAME)
    if former.is_dir() and not folder.exists():
        with suppress(FileNotFoundError):  # a concurrent run renamed it
            former.rename(folder)
    return folder


def _file_name(origin: np.datetime64) -> str:
    return re.sub(r"\D", "", str(origin.astype("datetime64[s]"))) + ".txt"
