"""Atomic publication: a file or folder appears complete, or not at all.

Content is written on the disk of its destination, flushed, then renamed. A killed process leaves files under `scratch`
only; a later publication removes those whose lease no living process holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from resources.locks import LockHeldError, exclusive_lock

# In a folder, the digest of its other files.
SEAL = ".sha256"
LEASE = ".lease"
KEPT_SECONDS = 86_400


@contextmanager
def publishing_folder(destination: Path, scratch: Path) -> Iterator[Path]:
    """A new folder to fill; at the end of the block it becomes `destination`, unless that exists already.

    Destinations are named by the digest of their content, so an existing one is identical and stays. The digest of the
    files is recorded in the folder, for `resources.integrity`.
    """
    with scratch_folder(scratch) as folder:
        yield folder
        (folder / SEAL).write_text(f"{digest_of_folder(folder, frozenset({SEAL}))}\n")
        publish_folder(folder, destination)


@contextmanager
def scratch_folder(scratch: Path) -> Iterator[Path]:
    """An empty folder under `scratch`, removed at the end of the block.

    Inside the block this process holds the folder's lease, a lock: however long the block takes and whatever the clock
    says, no other process removes the folder.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    _sweep(scratch)
    with _leased_name(scratch) as folder:
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish_folder(folder: Path, destination: Path) -> None:
    """Rename a complete folder on the same disk to `destination`, unless that exists already."""
    folder.chmod(0o755)
    for file in folder.rglob("*"):
        if file.is_file():
            _flush(file)
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(destination)
    except OSError:
        if not destination.is_dir():
            raise
    _flush(destination.parent)


def publish_bytes(destination: Path, content: bytes) -> None:
    """Write a file atomically, replacing an existing one."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=destination.parent, prefix=f".{destination.name}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(destination)
        _flush(destination.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def copy_file(file: Path, destination: Path) -> None:
    """Copy a file and flush it. Not atomic: for destinations in a scratch folder."""
    shutil.copyfile(file, destination)
    _flush(destination)


def publish_file(file: Path, destination: Path) -> None:
    """Rename a complete file on the same disk to `destination`, replacing an existing one."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    _flush(file)
    file.replace(destination)
    _flush(destination.parent)


def digest_of_folder(folder: Path, leave_out: frozenset[str] = frozenset()) -> str:
    """SHA-256 over the names and bytes of a folder's files, without those named in `leave_out`."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in leave_out):
        total.update(file.relative_to(folder).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _leased_name(scratch: Path) -> Iterator[Path]:
    """A new name under `scratch` whose lease this process holds before the folder exists."""
    while True:
        folder = scratch / f"tmp{secrets.token_hex(6)}"
        lease = _lease_of(folder)
        with exclusive_lock(lease):
            # Another process may have swept the lease between its creation and its lock.
            if not lease.exists():
                continue
            try:
                yield folder
            finally:
                lease.unlink(missing_ok=True)
            return


def _lease_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{LEASE}")


def _sweep(scratch: Path) -> None:
    """Remove what ended processes left: leases that nobody holds with their folders, and old entries without a lease.

    The latter are kept for another process on purpose, or are of a version without leases: nobody works in them.
    """
    for lease in scratch.glob(f".*{LEASE}"):
        try:
            with exclusive_lock(lease, wait=0):
                _remove(scratch / lease.name.removeprefix(".").removesuffix(LEASE))
                lease.unlink(missing_ok=True)
        except LockHeldError:
            continue
    for entry in scratch.iterdir():
        if entry.suffix == LEASE or _lease_of(entry).exists():
            continue
        with suppress(FileNotFoundError):
            if time.time() - entry.stat().st_mtime > KEPT_SECONDS:
                _remove(entry)


def _remove(entry: Path) -> None:
    shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
