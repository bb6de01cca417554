"""Origins that Kronos does not forecast from: their input has drifted, and the settings say to block.

One small file an origin, so that two runs at once lose nothing of each other. Not here: when input has drifted
(assets.forecasting.drift).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from resources.layout import Home
from resources.publish import publish_bytes

REASON = "its input has drifted, and drift.action is block"


def write_withheld(home: Home, predictor: str, found: Mapping[np.datetime64, str | None]) -> None:
    """Withhold the origins that come with words, and let the others go.

    Args:
        predictor: the digest of the weights that the input was measured for.
    """
    for origin, words in found.items():
        file = _file(home, predictor, origin)
        if words is not None:
            publish_bytes(file, words.encode())
        else:
            file.unlink(missing_ok=True)


def withheld(home: Home, predictor: str, origins: Sequence[np.datetime64]) -> dict[np.datetime64, str]:
    """Those of some origins that are withheld, and why."""
    files = {origin: _file(home, predictor, origin) for origin in origins}
    return {origin: file.read_text() for origin, file in files.items() if file.is_file()}


def _file(home: Home, predictor: str, origin: np.datetime64) -> Path:
    stamp = re.sub(r"\D", "", str(origin.astype("datetime64[s]")))
    return home.drift / predictor[:16] / "withheld" / f"{stamp}.txt"
