"""Exports a checkpoint to folders that `kronos` and the authors' package load, or uploads it to the Hugging Face Hub.

`python -m assets.training.export KIND --to FOLDER [--push USER/NAME]`. A predictor is exported together with its
tokenizer, each to a folder (on the hub: a repository) of its own. huggingface_hub uploads to `HF_ENDPOINT` with
`HF_TOKEN`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.layout import Home
from resources.profiles import load_settings
from resources.publish import publish_folder

NAMES: dict[Kind, str] = {
    "kronos_predictor": "predictor",
    "kronos_tokenizer": "tokenizer",
    "chronos2_model": "chronos2",
    "volatility_model": "volatility",
}


def export(store: CheckpointStore, kind: Kind, to: Path, digest: str | None = None) -> dict[str, Path]:
    """Copy a checkpoint (by default the one in use) and its tokenizer into new folders of `to`.

    Either all folders are created, complete, or none.

    Returns:
        The folders by part: "predictor", "tokenizer", "chronos2", "volatility".

    Raises:
        CandlecastError: there is no such checkpoint, a folder exists already, or `to` cannot be written.
    """
    chosen = store.load(kind, digest) if digest else store.current(kind)
    if chosen is None:
        raise CandlecastError(f"there is no {kind} in use to export: materialise it first")
    parts = {NAMES[part.kind]: part for part in [chosen, *_tokenizer_of(chosen, store)]}
    folders = {name: to / name for name in parts}
    for target in folders.values():
        if target.exists():
            raise CandlecastError(f"{target} exists already: export into a new folder")
    try:
        to.mkdir(parents=True, exist_ok=True)
        _copy({part.folder: folders[name] for name, part in parts.items()}, to)
    except OSError as error:
        raise CandlecastError(
            f"nothing was exported to {to}: {error}. Choose a writable folder with enough free space for the weights"
        ) from error
    return folders


def _copy(folders: Mapping[Path, Path], to: Path) -> None:
    """Copy each folder to its destination in `to`: first into a scratch folder there, then by renaming."""
    published: list[Path] = []
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=to) as scratch:
        filled = {shutil.copytree(folder, Path(scratch) / target.name): target for folder, target in folders.items()}
        try:
            for folder, target in filled.items():
                publish_folder(folder, target)
                published.append(target)
        except BaseException:
            for target in published:
                shutil.rmtree(target, ignore_errors=True)
            raise


def push(folders: dict[str, Path], name: str, private: bool = True) -> list[str]:
    """Upload exported folders to the hub as `name-predictor`, `name-tokenizer`, …, and return their URLs.

    Raises:
        CandlecastError: the hub cannot be reached or refuses the upload.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    urls = []
    for part, folder in folders.items():
        repository = f"{name}-{part}"
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"candlecast export of the {part}"
            )
        except Exception as error:  # the errors of its HTTP library share no base class and change with its version
            raise CandlecastError(
                f"{repository} could not be uploaded to {api.endpoint}: {error}. Check HF_TOKEN and HF_ENDPOINT; the "
                f"exported folder {folder} is complete"
            ) from error
        urls.append(str(done.repo_url))
    return urls


def _tokenizer_of(chosen: Checkpoint, store: CheckpointStore) -> list[Checkpoint]:
    digest = chosen.card.get("tokenizer")
    return [store.load("kronos_tokenizer", digest)] if digest else []


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m assets.training.export", description=__doc__)
    parser.add_argument("kind", choices=sorted(NAMES))
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--digest")
    parser.add_argument("--push", metavar="USER/NAME")
    parser.add_argument("--public", action="store_true")
    parser.add_argument("--settings", type=Path)
    parser.add_argument("--profile")
    given = parser.parse_args(argv)
    try:
        store = CheckpointStore(Home(load_settings(given.settings, given.profile).home))
        folders = export(store, given.kind, given.to, given.digest)
        lines = [str(folder) for folder in folders.values()]
        if given.push:
            lines += push(folders, given.push, private=not given.public)
    except CandlecastError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
