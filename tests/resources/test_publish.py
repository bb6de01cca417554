"""Atomic publication, digests, and the checkpoint store that is built on them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError
from resources.integrity import is_intact, keep_if_intact, publish_kept_json, read_kept_json, seal_file, seal_of
from resources.layout import Home
from resources.publish import (
    KEPT_SECONDS,
    digest_of,
    digest_of_folder,
    publish_bytes,
    publish_file,
    publishing_folder,
    scratch_folder,
)


def test_a_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "there" / "abc"
    with pytest.raises(RuntimeError), publishing_folder(target, tmp_path / "scratch") as folder:
        (folder / "a").write_text("1")
        raise RuntimeError("killed")
    assert not target.exists()
    assert list((tmp_path / "scratch").iterdir()) == []
    with publishing_folder(target, tmp_path / "scratch") as folder:
        (folder / "a").write_text("1")
    assert (target / "a").read_text() == "1"


def test_an_existing_folder_is_not_replaced(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with publishing_folder(tmp_path / "x", tmp_path / "scratch") as folder:
            (folder / "a").write_text(text)
    assert (tmp_path / "x" / "a").read_text() == "first"


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    publish_bytes(tmp_path / "f", b"old")
    with pytest.raises(TypeError):
        publish_bytes(tmp_path / "f", "not bytes")  # type: ignore[arg-type]
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False) | st.text(), max_size=5))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest_of(value) == digest_of(dict(reversed(list(value.items()))))


def test_the_digest_of_a_folder_covers_names_and_bytes(tmp_path: Path) -> None:
    for name, files in {"a": {"x": "1"}, "b": {"x": "1"}, "c": {"y": "1"}, "d": {"x": "2"}}.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    a, b, c, d = (digest_of_folder(tmp_path / name) for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_a_checkpoint_is_found_by_its_recipe_and_named_by_its_content(tmp_path: Path) -> None:
    store = CheckpointStore(Home(tmp_path))
    one = store.publish("kronos_tokenizer", {"lr": 1}, lambda f: _write(f, "w"), {"cutoff": "2010-12-31"})
    same = store.publish("kronos_tokenizer", {"lr": 2}, lambda f: _write(f, "w"), {"cutoff": "2011-12-31"})
    other = store.publish("kronos_tokenizer", {"lr": 3}, lambda f: _write(f, "v"), {})
    assert one.digest == same.digest != other.digest
    assert store.find("kronos_tokenizer", {"lr": 3}) == other
    assert store.find("kronos_tokenizer", {"lr": 4}) is None
    assert str(store.load("kronos_tokenizer", one.digest[:8]).cutoff) == "2010-12-31"
    with pytest.raises(CandlecastError, match=r"0 .*checkpoints"):
        store.load("kronos_tokenizer", "f" * 12)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"{}"])
def test_a_damaged_file_of_the_store_is_named_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    store = CheckpointStore(Home(tmp_path))
    made = store.publish("kronos_tokenizer", {"lr": 1}, lambda f: _write(f, "w"), {})
    (recipe,) = (made.folder.parent / "recipes").iterdir()
    whole = recipe.read_bytes()
    recipe.write_bytes(content)
    with pytest.raises(CandlecastError, match=rf"{recipe} is damaged .*: remove it, and"):
        store.find("kronos_tokenizer", {"lr": 1})
    recipe.write_bytes(whole)
    (made.folder / "card.json").write_bytes(content)
    readings: tuple[Callable[[], object], ...] = (
        lambda: store.load("kronos_tokenizer", made.digest),
        lambda: store.find(made.kind, {"lr": 1}),
    )
    for reading in readings:
        with pytest.raises(CandlecastError, match=rf"{made.folder}/card\.json is damaged .*remove the folder"):
            reading()
    (made.folder / "card.json").unlink()
    with pytest.raises(CandlecastError, match=r"card\.json is damaged \(.*No such file"):
        store.load("kronos_tokenizer", made.digest)


def _write(folder: Path, text: str) -> None:
    (folder / "model.safetensors").write_text(text)


WORK = """
import sys
from pathlib import Path
from resources.publish import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_scratch_folder_stays_while_its_process_lives_and_is_removed_after_it_was_killed(tmp_path: Path) -> None:
    """Also with a clock that is two days ahead: a fit may take days."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    live = Path(process.stdout.readline().strip())
    aged = time.time() - 2 * KEPT_SECONDS
    os.utime(live, (aged, aged))
    with scratch_folder(tmp_path) as own:
        os.utime(own, (aged, aged))
        with scratch_folder(tmp_path):
            assert own.is_dir()
        assert (live / "half").is_file()
    process.kill()
    process.communicate()
    with scratch_folder(tmp_path) as own:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [own]
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_leased_is_removed_when_it_is_old(tmp_path: Path) -> None:
    for name, age in (("new", 0), ("old", 2 * KEPT_SECONDS)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with scratch_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_changed_weights_are_not_loaded_and_are_trained_again(tmp_path: Path, name: str) -> None:
    store = CheckpointStore(Home(tmp_path))

    def write(folder: Path) -> None:
        for file in ("model.safetensors", "config.json"):
            (folder / file).write_text(f"{file} 1.25")

    made = store.publish("kronos_predictor", {"lr": 1}, write, {})
    store.set_current(made.kind, made.digest)
    # The same size: only the digest differs.
    (made.folder / name).write_text(f"{name} 1.26")
    readings: tuple[Callable[[], object], ...] = (
        lambda: store.load(made.kind, made.digest),
        lambda: store.current(made.kind),
    )
    for read in readings:
        with pytest.raises(CandlecastError, match=rf"{made.folder} is damaged.*candlecast doctor --repair"):
            read()
    assert store.find(made.kind, {"lr": 1}) is None
    aside = tmp_path / "damaged" / "checkpoints" / made.kind / made.digest
    assert (aside / name).read_text().endswith("1.26") and not made.folder.exists()
    again = store.publish("kronos_predictor", {"lr": 1}, write, {})
    assert (again.digest, store.current(made.kind)) == (made.digest, again)


def test_a_damaged_folder_or_file_is_set_aside_and_an_unrecorded_one_is_kept(tmp_path: Path) -> None:
    with publishing_folder(tmp_path / "windows" / "abc", tmp_path / "scratch") as folder:
        (folder / "bars").write_bytes(bytes(64))
    assert keep_if_intact(tmp_path / "windows" / "abc", tmp_path)
    for number in (1, 2):
        (tmp_path / "windows" / "abc" / "bars").write_bytes(bytes(63) + bytes([number]))
        assert not keep_if_intact(tmp_path / "windows" / "abc", tmp_path)
        with publishing_folder(tmp_path / "windows" / "abc", tmp_path / "scratch") as folder:
            (folder / "bars").write_bytes(bytes(64))
        assert keep_if_intact(tmp_path / "windows" / "abc", tmp_path)
    assert len(list((tmp_path / "damaged" / "windows").iterdir())) == 2
    file = tmp_path / "paths" / "one.parquet"
    publish_bytes(file, b"paths")
    assert keep_if_intact(file, tmp_path)
    seal_file(file)
    file.write_bytes(b"pathz")
    assert not is_intact(file) and not keep_if_intact(file, tmp_path)
    assert not list(file.parent.iterdir())
    assert not is_intact(file) and not is_intact(tmp_path / "windows" / "none")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"a": 2}'])
@pytest.mark.parametrize("sealed", [True, False])
def test_json_that_can_be_computed_again_is_set_aside_when_it_is_damaged(
    tmp_path: Path, content: bytes, sealed: bool
) -> None:
    file = tmp_path / "drift" / "a.json"
    assert read_kept_json(file, tmp_path) is None
    publish_kept_json(file, {"a": 1})
    publish_kept_json(file, {"a": 3})
    assert read_kept_json(file, tmp_path) == {"a": 3}
    file.write_bytes(content)
    if not sealed:
        # As of an earlier version: what can be read is taken as intact.
        seal_of(file).unlink()
    is_believed = content.startswith(b'{"a"') and not sealed
    assert read_kept_json(file, tmp_path) == ({"a": 2} if is_believed else None)
    assert (tmp_path / "damaged" / "drift" / "a.json").exists() != is_believed


def test_a_publication_is_one_rename_of_files_that_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy could be seen half-written; a rename that reaches the disk before the content leaves an empty file."""
    flushed: list[int] = []
    renamed = Path.rename

    def fsync(handle: int) -> None:
        flushed.append(os.fstat(handle).st_ino)

    def rename(source: Path, target: Path) -> Path:
        files = [source] if source.is_file() else [file for file in source.rglob("*") if file.is_file()]
        assert {file.stat().st_ino for file in files} <= set(flushed), f"{source} was renamed before it was flushed"
        return renamed(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(Path, "replace", rename)
    with publishing_folder(tmp_path / "x", tmp_path / "scratch") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text("1")
        written = (folder / "deep" / "a").stat().st_ino
    assert (tmp_path / "x" / "deep" / "a").stat().st_ino == written
    for text in ("old", "new"):
        (tmp_path / "scratch" / "f").write_text(text)
        written = (tmp_path / "scratch" / "f").stat().st_ino
        publish_file(tmp_path / "scratch" / "f", tmp_path / "there" / "f")
        assert (tmp_path / "there" / "f").stat().st_ino == written
    publish_bytes(tmp_path / "g", b"1")
    assert {path.stat().st_ino for path in (tmp_path, tmp_path / "there", tmp_path / "g")} <= set(flushed)


def test_a_reader_of_a_replaced_file_keeps_the_old_content(tmp_path: Path) -> None:
    publish_bytes(tmp_path / "f", b"old")
    with (tmp_path / "f").open("rb", buffering=0) as reader:
        publish_bytes(tmp_path / "f", b"newer")
        assert reader.read() == b"old"
    assert (tmp_path / "f").read_bytes() == b"newer"
