"""Downloads from the Hugging Face Hub: a repository at one commit into the cache of the hub, verified and locked.

huggingface_hub 2 keeps the complete files of an interrupted download and begins an incomplete one anew. Weights are one
large file, so its bytes are continued here; addresses, requests and the layout of the cache are huggingface_hub's.
HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE apply. Not here: the lock and what reads it (resources.hub_models).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from resources.errors import CandlecastError, MissingWeightsError
from resources.hub_models import MAIN, HubFile, HubModel, is_git_hash, lock_model, locked_model, repository_folder
from resources.layout import Home
from resources.locks import exclusive_lock
from resources.publish import publish_bytes

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

# Configuration and weights; no pickles, which can run code when they are opened.
FETCHED = ("*.json", "*.safetensors")
WEIGHTS = "*.safetensors"
CONFIG = "config.json"
PARTIAL = ".partial"
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Fetched:
    """The outcome of a fetch.

    Attributes:
        downloaded: files that were missing, truncated or altered, and what was wrong with each.
        moved_from: the commit that the home used before, if it was another one.
    """

    model: HubModel
    downloaded: dict[str, str]
    moved_from: str | None = None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return bool(constants.is_offline_mode())


def fetch_model(home: Home, repository: str, revision: str | None, update: bool = False) -> Fetched:
    """Make a repository's files complete in the cache of the hub, and lock its commit in the home.

    The commit of the lock is kept. Files that are there and match cost no request.

    Args:
        revision: a branch, a tag or a commit; None: the main branch.
        update: ask the hub for the newest commit of the revision, and move the lock to it once it is complete.

    Raises:
        CandlecastError: the hub cannot be reached, refuses, or sends other bytes than it announced; or something is
            missing and HF_HUB_OFFLINE is set. The lock is unchanged, and complete files are kept.
    """
    locked = locked_model(home, repository, revision)
    if locked is not None and not update and not locked.problems():
        return Fetched(locked, {})
    if is_offline():
        raise CandlecastError(_offline(repository, revision, locked, update))
    model = _ask_hub(repository, revision, locked.commit if locked and not update else None)
    wrong = model.problems()
    for name in wrong:
        _download(model, name)
    if model != locked:
        lock_model(home, model)
    return Fetched(model, wrong, locked.commit if locked and locked.commit != model.commit else None)


def snapshot_folder(repository: str, revision: str | None) -> Path:
    """The folder of a repository in the cache of the hub, named by its commit, for a reader that has no home.

    A commit that the cache has costs no request, and neither does any revision with HF_HUB_OFFLINE. Otherwise the hub
    is asked for the newest commit, and files that are missing are downloaded.

    Raises:
        MissingWeightsError: HF_HUB_OFFLINE is set, and the cache does not have it.
        CandlecastError: the hub cannot be reached, refuses, or sends other bytes than it announced.
    """
    cache, named = repository_folder(repository), revision or MAIN
    reference = cache / "refs" / named
    known = named if is_git_hash(named) else reference.read_text().strip() if reference.is_file() else None
    folder = cache / "snapshots" / known if known else None
    cached = folder is not None and (folder / CONFIG).is_file() and any(folder.glob(WEIGHTS))
    if folder is not None and cached and (is_offline() or is_git_hash(named)):
        return folder
    if is_offline():
        at = f" at {revision}" if revision else ""
        raise MissingWeightsError(
            f"the cache of the hub, {cache.parent}, does not have {repository}{at}, and HF_HUB_OFFLINE is set: unset "
            "it, copy the cache of a machine that has it (HF_HOME), or name a folder instead"
        )
    model = _ask_hub(repository, revision, None)
    for name in model.problems():
        _download(model, name)
    if not is_git_hash(named):
        publish_bytes(reference, model.commit.encode())
    return model.folder


def _offline(repository: str, revision: str | None, locked: HubModel | None, update: bool) -> str:
    if locked is None:
        what = f"{repository}{f' at {revision}' if revision else ''} was not fetched into this home"
    else:
        what = f"{repository} at {locked.commit[:12]}: {locked.damage() or 'cannot be updated'}"
    return (
        f"{what}, and HF_HUB_OFFLINE is set: unset it, or fetch on a machine with a network and copy hub.json of its "
        "home and the cache of the hub (HF_HOME), or name a folder instead"
    )


def _ask_hub(repository: str, revision: str | None, commit: str | None) -> HubModel:
    """A repository as the hub describes it."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    endpoint = constants.ENDPOINT
    try:
        info = HfApi(endpoint=endpoint).model_info(repository, revision=commit or revision or MAIN, files_metadata=True)
    except GatedRepoError as error:
        raise CandlecastError(
            f"{repository} is gated at {endpoint}: accept its terms there, and set HF_TOKEN ({error})"
        ) from error
    except RepositoryNotFoundError as error:
        raise CandlecastError(
            f"{endpoint} has no repository {repository} that this token may read: correct the name, set HF_TOKEN, or, "
            "if a folder was meant, create it"
        ) from error
    except RevisionNotFoundError as error:
        raise CandlecastError(
            f"{repository} has no revision {commit or revision} at {endpoint}: correct the revision, or run "
            "`candlecast fetch --update` if it was removed there"
        ) from error
    except Exception as error:  # the errors of its HTTP library share no base class and change with its version
        raise CandlecastError(_unreachable(repository, error)) from error
    return _described(repository, revision, info)


def _unreachable(what: str, error: Exception) -> str:
    """The message for a hub that does not answer."""
    from huggingface_hub import constants

    return (
        f"{what}: the hub at {constants.ENDPOINT} could not be reached ({error}). Run `candlecast fetch` where "
        "there is a network, set HF_ENDPOINT to a mirror, or name a folder with the files instead"
    )


def _described(repository: str, revision: str | None, info: ModelInfo) -> HubModel:
    files = {
        one.rfilename: HubFile(one.size or 0, one.lfs.sha256 if one.lfs else str(one.blob_id))
        for one in info.siblings or []
        if any(fnmatch(one.rfilename, pattern) for pattern in FETCHED)
    }
    if not any(fnmatch(name, WEIGHTS) for name in files):
        raise CandlecastError(f"{repository} has no *.safetensors: weights in other formats are not read")
    if info.sha is None or not is_git_hash(info.sha) or info.last_modified is None:
        raise CandlecastError(f"{repository}: the hub states no commit or no date, so that it cannot be pinned")
    for name, file in files.items():  # they become paths of the cache
        if not _DIGEST.fullmatch(file.digest) or ".." in name.split("/") or name.startswith("/"):
            raise CandlecastError(
                f"{repository}: the hub announces {name!r} with the digest {file.digest!r}: not fetched"
            )
    licence = info.card_data.get("license") if info.card_data else None
    return HubModel(
        repository,
        revision or MAIN,
        info.sha,
        info.last_modified.date(),
        str(licence) if licence else None,
        files,
    )


def _download(model: HubModel, name: str) -> None:
    """Put a file where the cache of the hub has it, continuing an interrupted download.

    Raises:
        CandlecastError: the hub cannot be reached, or sends other bytes than it announced.
    """
    from huggingface_hub import constants, hf_hub_download

    file, pointer = model.files[name], model.folder / name
    folder = repository_folder(model.repository)
    blob = folder / "blobs" / file.digest
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(folder.parent / ".locks" / folder.name / f"{file.digest}.lock"):  # huggingface_hub's own
            if file.problem(blob):
                _download_bytes(model, name, blob)
        if pointer.is_file() and file.problem(pointer):  # a copy, where the file system has no links
            pointer.unlink()
        hf_hub_download(model.repository, name, revision=model.commit, endpoint=constants.ENDPOINT)
    except CandlecastError:
        raise
    except Exception as error:  # see `_ask_hub`
        if isinstance(error, OSError) and error.errno:
            raise CandlecastError(
                f"{model.repository}: {name} could not be written to {folder} ({error}): free space, or set HF_HOME"
            ) from error
        raise CandlecastError(_unreachable(f"{model.repository}, {name}", error)) from error
    if problem := file.problem(pointer):
        raise CandlecastError(f"{model.repository}: {name} {problem} after its download: run `candlecast fetch` again")


def _download_bytes(model: HubModel, name: str, blob: Path) -> None:
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    file, partial = model.files[name], blob.with_name(f"{blob.name}{PARTIAL}")
    if partial.is_file() and partial.stat().st_size > file.size:
        partial.unlink()
    with partial.open("ab") as stream:
        http_get(
            hf_hub_url(model.repository, name, revision=model.commit, endpoint=constants.ENDPOINT),
            stream,
            resume_size=stream.tell(),
            headers=build_hf_headers(),
            expected_size=file.size,
            displayed_filename=f"{model.repository} {name}",
        )
    if problem := file.problem(partial):
        partial.unlink()
        raise CandlecastError(
            f"{model.repository}: {name} {problem}, as {constants.ENDPOINT} sent it: run `candlecast fetch` again"
        )
    partial.replace(blob)
