"""The drop folder: taken in, refused with a reason, or left until complete."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import time
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from assets.market.acceptance import conservation_errors
from assets.market.ingest.dropfolder import DroppedFile, sessions_of_dropped_files, take_dropped_files
from assets.market.ingest.ingest import ingest, rebuild
from assets.market.ingest.payloads import PayloadBatch
from assets.market.ingest.rules import REASONS
from resources.errors import CandlecastError
from tests.market.market_desk import GOOD, HEADER, Desk, make_desk_in


def later() -> float:
    """When whatever was just written is long complete."""
    return time.time() + 60


def outcomes_of(desk: Desk) -> list[str]:
    return [dropped.outcome for dropped in take_dropped_files(desk.folder, desk.reading, desk.home, later())]


def test_a_good_file_is_taken_in_and_moved_to_done_with_a_note(desk: Desk) -> None:
    desk.write("new.csv", f"{HEADER}\n{GOOD}\nAAPL,2012-01-04,ten,11,9,10.5,1\n")
    taken = take_dropped_files(desk.folder, desk.reading, desk.home, later())
    assert sessions_of_dropped_files(taken) == [date(2012, 1, 3)]
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
    take_dropped_files(desk.folder, desk.reading, desk.home, later())
    assert reason in json.loads((desk.folder / "refused" / "bad.csv.json").read_text())["reason"]
    assert (desk.folder / "refused" / "bad.csv").read_text() == content
    assert desk.lake.batches() == []


def test_a_bad_file_does_not_keep_a_good_one_out(desk: Desk) -> None:
    desk.write("a.csv", "nonsense\n1\n")
    desk.write("b.csv", f"{HEADER}\n{GOOD}\n")
    assert outcomes_of(desk) == [
        "refused",
        "done",
    ]


def test_a_file_that_is_still_being_copied_is_left(desk: Desk) -> None:
    file = desk.write("new.csv", f"{HEADER}\n{GOOD}\n")
    assert take_dropped_files(desk.folder, desk.reading, desk.home) == []
    whole = desk.folder / "whole.parquet"
    pd.DataFrame({"symbol": ["AAPL"]}).to_parquet(whole)
    half = desk.write("half.parquet", whole.read_bytes()[:-8])
    whole.unlink()
    file.unlink()
    assert take_dropped_files(desk.folder, desk.reading, desk.home, later()) == []
    assert half.is_file()
    os.utime(half, (1, 1))
    assert outcomes_of(desk) == ["refused"]


def test_a_file_of_the_future_is_taken_once_nobody_writes_to_it(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    file = desk.write("new.csv", f"{HEADER}\n{GOOD}\n")
    os.utime(file, (later() + 1e6, later() + 1e6))
    assert take_dropped_files(desk.folder, desk.reading, desk.home) == []
    assert caplog.messages == []
    # A modification time in the future is logged.
    assert take_dropped_files(desk.folder, desk.reading, desk.home, later() - 1e6) == []
    assert re.search(r"new\.csv: .*in the future", caplog.text)
    assert outcomes_of(desk) == ["done"]


def test_the_same_name_every_evening_adds_and_never_withdraws(desk: Desk) -> None:
    for day in ("2012-01-03", "2012-01-04"):
        desk.write("bars.csv", f"{HEADER}\n{GOOD.replace('2012-01-03', day)}\n")
        take_dropped_files(desk.folder, desk.reading, desk.home, later())
        ingest(desk.lake, desk.warehouse)
    assert desk.bars()["session"].dt.day.tolist() == [3, 4]
    assert len(list((desk.folder / "done").glob("bars*.csv"))) == 2


def test_a_file_dropped_twice_changes_nothing(desk: Desk) -> None:
    for _ in range(2):
        desk.write("bars.csv", f"{HEADER}\n{GOOD}\n")
        take_dropped_files(desk.folder, desk.reading, desk.home, later())
    assert len(desk.lake.batches()) == 1


def test_a_link_out_of_the_folder_is_not_followed(desk: Desk, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text(f"{HEADER}\n{GOOD}\n")
    (desk.folder / "link.csv").symlink_to(outside)
    assert take_dropped_files(desk.folder, desk.reading, desk.home, later()) == []
    assert outside.is_file()


def test_a_missing_drop_folder_is_named(desk: Desk) -> None:
    with pytest.raises(CandlecastError, match=r"nowhere does not exist.*market\.drop"):
        take_dropped_files(desk.folder / "nowhere", desk.reading, desk.home, later())


def drop(desk: Desk, name: str, content: str | bytes, **more: object) -> DroppedFile:
    desk.write(name, content)
    (taken,) = take_dropped_files(desk.folder, desk.reading, desk.home, later(), **more)  # type: ignore[arg-type]
    ingest(desk.lake, desk.warehouse)
    return taken


def test_the_newest_delivery_wins_also_when_it_is_an_older_file(desk: Desk) -> None:
    for close in ("10.5", "10.6", "10.5"):
        taken = drop(desk, "bars.csv", f"{HEADER}\n{GOOD.replace('10.5', close)}\n")
        assert (desk.bars()["close"].tolist(), taken.reason) == ([float(close)], "")
    again = drop(desk, "bars.csv", f"{HEADER}\n{GOOD}\n")
    assert "nothing changed" in again.reason
    assert len(desk.lake.batches()) == 3
    assert conservation_errors(desk.warehouse, desk.lake) == []


def test_an_unfinished_bar_is_taken_when_the_file_is_dropped_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make_desk_in(tmp_path, calendar="24/7", frequency="1h")
    content = f"{HEADER}\nBTC,2024-03-08 11:00,10,11,9,10.5,1\nBTC,2024-03-08 12:00,10,11,9,10.5,1\n"
    for hour, bars in ((12, 1), (12, 1), (13, 2)):
        monkeypatch.setattr("assets.market.ingest.lake.utc_now", lambda hour=hour: datetime(2024, 3, 8, hour, 30))
        monkeypatch.setattr("assets.market.ingest.dropfolder.utc_now", lambda hour=hour: datetime(2024, 3, 8, hour, 30))
        drop(desk, "bars.csv", content)
        assert len(desk.bars()) == bars
    assert "drop" in REASONS["not_closed_yet"]


@pytest.mark.parametrize("error", [ValueError("odd"), duckdb.ConversionException("odd"), KeyError("odd")])
def test_whatever_one_file_breaks_it_is_refused_by_name_and_the_next_goes_in(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from assets.market.ingest.contract import stage_batch as real

    def breaks(batch: PayloadBatch, *more: Any) -> Any:
        if batch.payloads[0].request.file == "a.csv":
            raise error
        return real(batch, *more)

    monkeypatch.setattr("assets.market.ingest.dropfolder.stage_batch", breaks)
    desk.write("a.csv", f"{HEADER}\n{GOOD}\n")
    desk.write("b.csv", f"{HEADER}\n{GOOD}\n")
    bad, good = take_dropped_files(desk.folder, desk.reading, desk.home, later())
    assert (bad.outcome, good.outcome) == ("refused", "done")
    assert bad.reason.startswith(f"a.csv: cannot be read as bars: {type(error).__name__}")
    assert (desk.folder / "refused" / "a.csv").is_file()


def test_a_full_disk_refuses_no_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("assets.market.ingest.dropfolder.stage_batch", full)
    desk.write("a.csv", f"{HEADER}\n{GOOD}\n")
    with pytest.raises(OSError, match="No space left"):
        take_dropped_files(desk.folder, desk.reading, desk.home, later())
    assert (desk.folder / "a.csv").is_file()


def test_sessions_outside_the_settings_are_reported_and_have_no_run(desk: Desk) -> None:
    lines = [GOOD.replace("2012-01-03", f"2012-01-{day:02}") for day in (3, 4, 9)]
    taken = drop(desk, "x.csv", "\n".join([HEADER, *lines]), within=(date(2012, 1, 4), date(2012, 1, 6)))
    assert taken.outside == ["2012-01-03", "2012-01-09"]
    assert "2 of its 3 sessions (2012-01-03 … 2012-01-09) are not between market.start and market.end" in taken.reason
    assert sessions_of_dropped_files([taken]) == [date(2012, 1, 4)]
    assert len(desk.bars()) == 3


def test_a_folder_with_an_apostrophe_is_a_folder(tmp_path: Path) -> None:
    desk = make_desk_in(tmp_path / "the desk's")
    taken = drop(desk, "x.csv", f"{HEADER}\n{GOOD}\nAAPL,2012-01-04,ten,11,9,10.5,1\n")
    assert (taken.outcome, taken.rejected) == ("done", 1)
    before = desk.bars()
    rebuild(desk.lake, desk.warehouse)
    pd.testing.assert_frame_equal(desk.bars(), before)


def test_a_run_that_is_stopped_refuses_no_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise duckdb.Error("Python exception: KeyboardInterrupt")

    monkeypatch.setattr("assets.market.ingest.dropfolder.stage_batch", stopped)
    desk.write("a.csv", f"{HEADER}\n{GOOD}\n")
    with pytest.raises(KeyboardInterrupt):
        take_dropped_files(desk.folder, desk.reading, desk.home, later())
    assert (desk.folder / "a.csv").is_file()


def test_a_name_too_long_for_its_note_is_cut_and_the_next_file_goes_in(desk: Desk) -> None:
    name = f"{'é' * 125}.csv"
    desk.write(name, f"{HEADER}\n{GOOD}\n")
    desk.write("ü.csv", f"{HEADER}\n{GOOD.replace('03', '04')}\n")
    assert outcomes_of(desk) == [
        "done",
        "done",
    ]
    assert ingest(desk.lake, desk.warehouse).kept == 2
    kept = sorted(file.name for file in (desk.folder / "done").iterdir())
    assert kept == [f"{'é' * 100}.csv", f"{'é' * 100}.csv.json", "ü.csv", "ü.csv.json"]
    assert json.loads((desk.folder / "done" / kept[1]).read_text())["file"] == name


def test_half_a_gzip_is_left_until_it_is_whole(desk: Desk) -> None:
    whole = gzip.compress(f"{HEADER}\n{GOOD}\n".encode())
    desk.write("not.csv.gz", f"{HEADER}\n{GOOD}\n")
    file = desk.write("bars.csv.gz", whole[:-8])
    (dropped,) = take_dropped_files(desk.folder, desk.reading, desk.home, later())
    assert (dropped.file, dropped.outcome) == ("not.csv.gz", "refused")
    file.write_bytes(whole)
    assert outcomes_of(desk) == ["done"]
    half = desk.write("half.csv.gz", whole[:-8])
    os.utime(half, (1, 1))
    assert outcomes_of(desk) == ["refused"]
