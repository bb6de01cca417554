"""Warnings of the files of a source, kept in the lake beside what was refused: doubtful units, scales and names.

For the check of `bars` and the end of a command. Not here: what is doubtful (findings, file_names, scales).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from assets.market.ingest.lake import Lake
from resources.integrity import read_kept_json
from resources.publish import publish_bytes
from resources.sources.protocol import Source

WARNINGS = "warnings.json"


def file_warnings(lake: Lake, source: Source) -> list[str]:
    """The warnings of the current payloads of a source, by request."""
    return [text for _, texts in sorted(_recorded(lake).get(source.name, {}).items()) for text in texts]


def record_warnings(lake: Lake, source: Source, by_request: Mapping[str, Sequence[str]]) -> None:
    """Replace the warnings of newly landed payloads; those of other requests stay."""
    recorded = _recorded(lake)
    own = {**recorded.get(source.name, {}), **by_request}
    own = {key: list(texts) for key, texts in own.items() if texts}
    if own != recorded.get(source.name, {}):
        publish_bytes(_file(lake), json.dumps({**recorded, source.name: own}, indent=1).encode())


def _recorded(lake: Lake) -> dict[str, dict[str, list[str]]]:
    return dict(read_kept_json(_file(lake), lake.home.root) or {})


def _file(lake: Lake) -> Path:
    return lake.home.lake / WARNINGS
