"""Integrity of stored artifacts: what was published with a digest is verified when it is read.

A folder's digest is in `.sha256` inside it, a file's in `<name>.sha256` beside it; a checkpoint folder is named by its
own. What does not match is set aside under `<home>/damaged/`, so that the next run creates it again. An artifact
without a recorded digest, from an earlier version, is taken as intact.
"""

from __future__ import annotations

import hashlib
import json
from itertools import chain, count
from pathlib import Path
from typing import Any

from resources.publish import SEAL, digest_of_folder, publish_bytes

# The folder of the home for what is set aside.
DAMAGED = "damaged"
State = tuple[tuple[str, int, int], ...]
# What this process verified, with the sizes and modification times of the files then.
_verified: dict[tuple[Path, str], State] = {}


def is_intact(artifact: Path) -> bool:
    """Whether a published file or folder exists and matches its recorded digest."""
    if artifact.is_dir():
        recorded = _recorded(artifact / SEAL)
        return recorded is None or matches(artifact, recorded, frozenset({SEAL}))
    recorded = _recorded(seal_of(artifact))
    return artifact.is_file() and (recorded is None or matches(artifact, recorded))


def matches(artifact: Path, digest: str, leave_out: frozenset[str] = frozenset()) -> bool:
    """Whether the content of a file or folder has a digest. Computed once per process and state of the files."""
    key, state = (artifact.absolute(), digest), _state(artifact)
    if _verified.get(key) == state:
        return True
    try:
        found = digest_of_folder(artifact, leave_out) if artifact.is_dir() else digest_of_file(artifact)
    except FileNotFoundError:
        return False
    if found != digest:
        return False
    _verified[key] = state
    return True


def keep_if_intact(artifact: Path, root: Path) -> bool:
    """Whether an artifact is there to be used. A damaged one is set aside, so that it can be created again.

    Args:
        root: the home folder.
    """
    if not artifact.exists():
        return False
    if is_intact(artifact):
        return True
    set_aside(artifact, root)
    return False


def read_kept_json(file: Path, root: Path) -> Any:
    """The content of a JSON file that can be computed again; None: there is none, or it was damaged and set aside.

    Args:
        root: the home folder.
    """
    if not keep_if_intact(file, root):
        return None
    try:
        return json.loads(file.read_bytes())
    except ValueError:  # of an earlier version, without a recorded digest
        set_aside(file, root)
        return None


def publish_kept_json(file: Path, content: object) -> None:
    """Write a JSON file that can be computed again, and record its digest."""
    # A killed process leaves a file without a recorded digest, never one that does not match it.
    seal_of(file).unlink(missing_ok=True)
    publish_bytes(file, json.dumps(content).encode())
    seal_file(file)


def set_aside(artifact: Path, root: Path) -> Path:
    """Move a damaged file or folder to `<root>/damaged/<its path>`, beside earlier ones of that path."""
    target = unused_path(root / DAMAGED / artifact.relative_to(root))
    target.parent.mkdir(parents=True, exist_ok=True)
    artifact.rename(target)
    if not target.is_dir():
        seal_of(artifact).unlink(missing_ok=True)
    return target


def unused_path(path: Path) -> Path:
    """The path, or if it exists the first of `<name>.2`, `<name>.3`, … that does not."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in count(2))
    return next(one for one in chain([path], numbered) if not one.exists())


def seal_of(file: Path) -> Path:
    """Where the digest of a file is recorded."""
    return file.with_name(f"{file.name}{SEAL}")


def seal_file(file: Path) -> None:
    """Record the digest of a file. Remove the record before the file is replaced (`seal_of`)."""
    publish_bytes(seal_of(file), f"{digest_of_file(file)}\n".encode())


def digest_of_file(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_sealed(file: Path) -> bool:
    """Whether the digest of a file was recorded."""
    return seal_of(file).is_file()


def _recorded(seal: Path) -> str | None:
    return seal.read_text(encoding="utf-8", errors="replace").strip() if seal.is_file() else None


def _state(artifact: Path) -> State:
    files = sorted(artifact.rglob("*")) if artifact.is_dir() else [artifact]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats)
