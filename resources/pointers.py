"""Pointer files: a small JSON object that names, by its digest, the artifact in use.

`{"digest": "<sha256>", …}`, replaced atomically. Nothing is found by "newest file": a checkpoint, the training
windows, a Qlib provider, a backtest and a report are in use because a pointer names them.
"""

from __future__ import annotations

import json
from pathlib import Path

from resources.errors import CandlecastError
from resources.publish import publish_bytes


def write_pointer(file: Path, digest: str, **facts: str) -> None:
    """Point to a digest. Writing the content that is already there leaves the file untouched.

    Args:
        facts: further keys for scripts that read the file.
    """
    content = json.dumps({"digest": digest, **facts}).encode()
    if not file.is_file() or file.read_bytes() != content:
        publish_bytes(file, content)


def read_pointer(file: Path, remedy: str = "remove it, and `candlecast run` writes it again") -> str | None:
    """The digest that a pointer names, or None if there is no such file.

    Raises:
        CandlecastError: the file is damaged. The message ends with `remedy`.
    """
    if not file.is_file():
        return None
    try:
        digest = json.loads(file.read_text(encoding="utf-8"))["digest"]
        if not isinstance(digest, str) or not digest:
            raise ValueError(f"digest = {digest!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CandlecastError(f"{file} is damaged, it names no digest ({error}): {remedy}") from None
    return digest
