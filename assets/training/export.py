"""A champion leaves the house: as a folder that the authors' package and `kronos` load, or on a hub.

`python -m assets.training.export KIND --to FOLDER [--push USER/NAME]`. A predictor goes with its tokenizer, each in a
folder of its own; on a hub each is a repository. Uploading is huggingface_hub's own: `HF_ENDPOINT` and `HF_TOKEN` say
where and as whom.
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
}


def export(store: CheckpointStore, kind: Kind, to: Path, digest: str | None = None) -> dict[str, Path]:
    """Copy a checkpoint, the one in use unless `digest` names another, and its tokenizer, into new folders of `to`.

    All of them appear, whole, or none does.

    Raises:
        CandlecastError: there is no such checkpoint, a folder is in the way, or `to` cannot be written.
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
            f"nothing was exported to {to}: {error}. Name a folder that can be written, with room for the weights"
        ) from error
    return folders


def _copy(folders: Mapping[Path, Path], to: Path) -> None:
    """Every folder to its destination in `to`: filled beside them, then renamed."""
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
    """Upload exported folders to the hub as `name-predictor`, `name-tokenizer`, …; returns their addresses.

    Raises:
        CandlecastError: the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    addresses = []
    for part, folder in folders.items():
        repository = f"{name}-{part}"
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"candlecast export of the {part}"
            )
        except Exception as error:  # its HTTP library's errors share no class with ours, and change with its version
            raise CandlecastError(
                f"{repository} could not be uploaded to {api.endpoint}: {error}. Check HF_TOKEN and HF_ENDPOINT; the "
                f"exported folder {folder} is complete"
            ) from error
        addresses.append(str(done.repo_url))
    return addresses


def _tokenizer_of(chosen: Checkpoint, store: CheckpointStore) -> list[Checkpoint]:
    digest = chosen.card.get("tokenizer")
    return [store.load("kronos_tokenizer", digest)] if digest else []


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
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
        told = [str(folder) for folder in folders.values()]
        if given.push:
            told += push(folders, given.push, private=not given.public)
    except CandlecastError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("\n".join(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
