from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError
from resources.layout import Home
from resources.publish import digest_of, digest_of_folder, publish_bytes, publishing_folder


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "there" / "abc"
    with pytest.raises(RuntimeError), publishing_folder(target, tmp_path / "scratch") as folder:
        (folder / "a").write_text("1")
        raise RuntimeError("killed")
    assert not target.exists()
    assert list((tmp_path / "scratch").iterdir()) == []
    with publishing_folder(target, tmp_path / "scratch") as folder:
        (folder / "a").write_text("1")
    assert (target / "a").read_text() == "1"


def test_what_is_published_already_stays(tmp_path: Path) -> None:
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


def test_a_folders_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
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
def test_what_is_damaged_in_the_store_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
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
