"""The drop folder: taken in, refused with a reason, or left until complete."""

from __future__ import annotations

import json
import os
import time
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from market_desk import GOOD, HEADER, Desk

from assets.market.dropfolder import sessions_taken, take_in
from assets.market.ingest import ingest
from resources.errors import CandlecastError


def later() -> float:
    """When whatever was just written is long complete."""
    return time.time() + 60


def test_a_good_file_is_taken_in_and_moved_to_done_with_a_note(desk: Desk) -> None:
    desk.write("new.csv", f"{HEADER}\n{GOOD}\nAAPL,2012-01-04,ten,11,9,10.5,1\n")
    taken = take_in(desk.folder, desk.reading, desk.home, later())
    assert sessions_taken(taken) == [date(2012, 1, 3)]
    assert ingest(desk.lake, desk.warehouse).kept == 1
    assert sorted(file.name for file in (desk.folder / "done").iterdir()) == ["new.csv", "new.csv.json"]
    note = json.loads((desk.folder / "done" / "new.csv.json").read_text())
    assert (note["received"], note["rejections"]) == (2, {"not_a_number": 1})
    assert note["examples"][0].startswith("row 2, not_a_number")
    assert not (desk.folder / "new.csv").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("symbol,date\nAAPL,2012-01-03\n", "no column for open"),
        (f"{HEADER}\nAAPL,2012-01-07,10,11,9,10.5,1\n", "the exchange was closed"),
        (f"{HEADER}\n", "no rows"),
        ("\n\n\n", "empty"),
    ],
)
def test_a_bad_file_is_moved_to_refused_with_the_reason(desk: Desk, content: str, reason: str) -> None:
    desk.write("bad.csv", content)
    take_in(desk.folder, desk.reading, desk.home, later())
    assert reason in json.loads((desk.folder / "refused" / "bad.csv.json").read_text())["reason"]
    assert (desk.folder / "refused" / "bad.csv").read_text() == content
    assert desk.lake.batches() == []


def test_a_bad_file_does_not_keep_a_good_one_out(desk: Desk) -> None:
    desk.write("a.csv", "nonsense\n1\n")
    desk.write("b.csv", f"{HEADER}\n{GOOD}\n")
    assert [fate.outcome for fate in take_in(desk.folder, desk.reading, desk.home, later())] == ["refused", "done"]


def test_a_file_that_is_still_being_copied_is_left(desk: Desk) -> None:
    file = desk.write("new.csv", f"{HEADER}\n{GOOD}\n")
    assert take_in(desk.folder, desk.reading, desk.home) == []
    whole = desk.folder / "whole.parquet"
    pd.DataFrame({"symbol": ["AAPL"]}).to_parquet(whole)
    half = desk.write("half.parquet", whole.read_bytes()[:-8])
    whole.unlink()
    file.unlink()
    assert take_in(desk.folder, desk.reading, desk.home, later()) == []
    assert half.is_file()
    os.utime(half, (1, 1))
    assert [fate.outcome for fate in take_in(desk.folder, desk.reading, desk.home, later())] == ["refused"]


def test_the_same_name_every_evening_adds_and_never_withdraws(desk: Desk) -> None:
    for day in ("2012-01-03", "2012-01-04"):
        desk.write("bars.csv", f"{HEADER}\n{GOOD.replace('2012-01-03', day)}\n")
        take_in(desk.folder, desk.reading, desk.home, later())
        ingest(desk.lake, desk.warehouse)
    assert desk.bars()["session"].dt.day.tolist() == [3, 4]
    assert len(list((desk.folder / "done").glob("bars*.csv"))) == 2


def test_a_file_dropped_twice_changes_nothing(desk: Desk) -> None:
    for _ in range(2):
        desk.write("bars.csv", f"{HEADER}\n{GOOD}\n")
        take_in(desk.folder, desk.reading, desk.home, later())
    assert len(desk.lake.batches()) == 1


def test_a_link_out_of_the_folder_is_not_followed(desk: Desk, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text(f"{HEADER}\n{GOOD}\n")
    (desk.folder / "link.csv").symlink_to(outside)
    assert take_in(desk.folder, desk.reading, desk.home, later()) == []
    assert outside.is_file()


def test_a_missing_drop_folder_is_named(desk: Desk) -> None:
    with pytest.raises(CandlecastError, match=r"nowhere does not exist.*market\.drop"):
        take_in(desk.folder / "nowhere", desk.reading, desk.home, later())
