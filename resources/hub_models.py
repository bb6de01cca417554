"""Models of the Hugging Face Hub, pinned to a commit: the lock of a home, and the files in the cache of the hub.

`<home>/hub.json`, the lock, holds for every name and revision the commit, its date, the licence, and size and digest of
every file. `candlecast fetch` writes it (resources.hub_download). Everything else reads it, without a network: a
model that is not in the lock, or whose files do not match it, is an error, never another revision or another model.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from resources.errors import CandlecastError, MissingWeightsError
from resources.integrity import matches
from resources.layout import Home
from resources.publish import publish_bytes
from resources.settings import Settings
from resources.vintages import BASES, settings_by_vintage

MAIN = "main"
# Options of a model in [models.NAME] that may name a repository, and those with its revision.
HUB_OPTIONS = {"model": "revision", "tokenizer": "tokenizer_revision"}
# The end of the training data where the authors state it: bars up to June 2024 for Kronos (arXiv 2508.02739).
STATED_CUTOFFS = {
    f"NeoQuasar/{name}": date(2024, 6, 30)
    for name in ("Kronos-mini", "Kronos-small", "Kronos-base", "Kronos-Tokenizer-2k", "Kronos-Tokenizer-base")
}
_NAME = re.compile(r"(?![.-])[\w.-]+/(?![.-])[\w.-]+")
_GIT_HASH = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes, and its digest.

    The digest is the one that the hub announces: SHA-256 of a large file, the git hash (SHA-1) of others.
    """

    size: int
    digest: str

    def problem(self, path: Path) -> str:
        """What is wrong with a copy of the file; empty: nothing."""
        if not path.is_file():
            return "is missing"
        if (size := path.stat().st_size) != self.size:
            return f"has {size:,} bytes instead of {self.size:,}"
        intact = _git_hash(path) == self.digest if is_git_hash(self.digest) else matches(path, self.digest)
        return "" if intact else "does not match its digest"


@dataclass(frozen=True)
class HubModel:
    """A repository at one commit.

    Attributes:
        revision: the requested revision, a branch, a tag or a commit.
        published: date of the commit.
        licence: as the repository's card states it; None: it states none.
        files: by name, those that are fetched: configuration and weights.
    """

    repository: str
    revision: str
    commit: str
    published: date
    licence: str | None
    files: Mapping[str, HubFile]

    @property
    def folder(self) -> Path:
        """Where the cache of the hub has the files of the commit."""
        return repository_folder(self.repository) / "snapshots" / self.commit

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def problems(self) -> dict[str, str]:
        """What is wrong with the files in the cache, by name; empty: all are there and match the lock."""
        found = {name: file.problem(self.folder / name) for name, file in self.files.items()}
        return {name: text for name, text in found.items() if text}

    def damage(self) -> str:
        """`problems` as text; empty: none."""
        return "; ".join(f"{name} {text}" for name, text in self.problems().items())


@dataclass(frozen=True)
class NamedModel:
    """A repository of the hub that a profile names.

    Attributes:
        model: the section or model that it belongs to, such as "predictor".
        key: the setting, such as "predictor.base".
    """

    model: str
    key: str
    repository: str
    revision: str | None


def named_models(settings: Settings) -> list[NamedModel]:
    """The repositories of the hub that a profile names, as a base or in the options of a model, of every vintage."""
    return list(dict.fromkeys(one for _, own in settings_by_vintage(settings) for one in _named_by(own)))


def _named_by(settings: Settings) -> list[NamedModel]:
    sections = [(name, getattr(settings, name)) for name in BASES]
    found = [NamedModel(name, f"{name}.base", section.base, section.revision) for name, section in sections]
    for name in settings.enabled_models:
        options = settings.models[name].options
        found += [
            NamedModel(name, f"models.{name}.options.{key}", options[key], options.get(revision))
            for key, revision in HUB_OPTIONS.items()
            if isinstance(options.get(key), str)
        ]
    return [one for one in found if hub_name(one.repository, settings.root)]


def repository_folder(repository: str) -> Path:
    """The folder of a repository in the cache of the hub (HF_HOME, HF_HUB_CACHE)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repository.replace('/', '--')}"


def hub_name(name: str, root: Path) -> str | None:
    """`name` if it is a repository's name and no folder, absolute or relative to `root`; else None."""
    if _NAME.fullmatch(name) is None or (root / name).is_dir():
        return None
    return name


def hub_reference(name: str, root: Path) -> tuple[str, str | None] | None:
    """Repository and revision of `owner/name` or `owner/name@revision`; None: it is no repository's name."""
    repository, _, revision = name.partition("@")
    return (repository, revision or None) if hub_name(repository, root) else None


def is_git_hash(text: str) -> bool:
    """Whether a text is a full git hash: of a commit, which never moves, or of a file."""
    return _GIT_HASH.fullmatch(text) is not None


def pinned_model(settings: Settings, repository: str, revision: str | None) -> HubModel:
    """The commit of a repository that the home has pinned, with all its files in the cache and verified.

    Args:
        revision: as in the settings; None: the main branch.

    Raises:
        MissingWeightsError: it was not fetched. The message has the command that fetches it.
        CandlecastError: a file is missing or altered. The message has the command that restores it.
    """
    model = locked_model(Home(settings.home), repository, revision)
    if model is None:
        at, remedy = f" at revision {revision}" if revision else "", fetch_command(settings, repository, revision)
        raise MissingWeightsError(
            f"{repository}{at} was not fetched into this home: {remedy}, or name a folder instead"
        )
    if damage := model.damage():
        remedy = f"{fetch_command(settings, repository, revision)}: it downloads these files again"
        raise CandlecastError(f"{repository} at {model.commit[:12]} in {model.folder}: {damage}. {remedy}")
    return model


def fetch_command(settings: Settings, repository: str, revision: str | None) -> str:
    """The instruction to fetch what a profile needs, with the name of a repository that only its code names."""
    named = any((one.repository, one.revision) == (repository, revision) for one in named_models(settings))
    name = "" if named else f" {repository}{f'@{revision}' if revision else ''}"
    return f"run `candlecast fetch --profile {settings.profile}{name}`"


def locked_model(home: Home, repository: str, revision: str | None) -> HubModel | None:
    """What the lock has of a repository and revision; None: nothing. No file is verified.

    Raises:
        CandlecastError: the lock is damaged.
    """
    entry = _read(home).get(_key(repository, revision))
    if entry is None:
        return None
    try:
        return HubModel(
            repository,
            revision or MAIN,
            str(entry["commit"]),
            date.fromisoformat(str(entry["published"])),
            str(entry["licence"]) if entry["licence"] else None,
            {name: HubFile(int(file["size"]), str(file["digest"])) for name, file in entry["files"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(home, f"{_key(repository, revision)}: {error!r}") from error


def lock_model(home: Home, model: HubModel) -> None:
    """Record a model in the lock, in place of an earlier commit of the same name and revision."""
    entry = {key: value for key, value in asdict(model).items() if key not in ("repository", "revision")}
    entries = {**_read(home), _key(model.repository, model.revision): entry}
    publish_bytes(home.hub_pins, (json.dumps(entries, indent=1, sort_keys=True, default=str) + "\n").encode())


def _key(repository: str, revision: str | None) -> str:
    return f"{repository}@{revision or MAIN}"


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _read(home: Home) -> dict[str, Any]:
    if not home.hub_pins.is_file():
        return {}
    try:
        entries = json.loads(home.hub_pins.read_bytes())
    except ValueError as error:
        raise _damaged(home, str(error)) from error
    if not isinstance(entries, dict):
        raise _damaged(home, "no JSON object")
    return entries


def _damaged(home: Home, why: str) -> CandlecastError:
    return CandlecastError(f"{home.hub_pins} is damaged ({why}): remove it and run `candlecast fetch`")
