"""A pointer names a digest, is replaced atomically and never returns something else than a digest."""

import json
from pathlib import Path

import pytest

from resources.errors import CandlecastError
from resources.pointers import read_pointer, write_pointer

DIGEST = "0123456789abcdef" * 4


def test_a_pointer_returns_the_digest_that_was_written_last(tmp_path: Path) -> None:
    file = tmp_path / "kind" / "current.json"
    assert read_pointer(file) is None
    write_pointer(file, "f" * 64)
    write_pointer(file, DIGEST)
    assert read_pointer(file) == DIGEST


def test_further_facts_are_keys_of_the_file(tmp_path: Path) -> None:
    write_pointer(tmp_path / "latest.json", DIGEST, report=f"{DIGEST}/report.html")
    assert json.loads((tmp_path / "latest.json").read_text()) == {"digest": DIGEST, "report": f"{DIGEST}/report.html"}


def test_writing_the_same_digest_again_leaves_the_file_untouched(tmp_path: Path) -> None:
    file = tmp_path / "current.json"
    write_pointer(file, DIGEST)
    before = file.stat()
    write_pointer(file, DIGEST)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"digest": null}', '{"digest": ""}', '"text"'])
def test_a_damaged_pointer_is_an_error_that_names_the_file_and_the_remedy(tmp_path: Path, content: str) -> None:
    file = tmp_path / "current.json"
    file.write_text(content)
    with pytest.raises(CandlecastError, match=r"current\.json .*restore it"):
        read_pointer(file, remedy="restore it")
