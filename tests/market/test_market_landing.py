"""Bad payloads keep neither the others out nor what comes after them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.market.ingest.dropfolder import take_dropped_files
from assets.market.ingest.ingest import Ingested, ingest, rebuild
from assets.market.ingest.lake import LOCK
from assets.market.ingest.landing import STAGED, land
from assets.market.ingest.refusals import PayloadsRefusedError
from resources.errors import CandlecastError
from resources.integrity import is_intact, set_aside
from resources.locks import exclusive_lock
from resources.sources.protocol import Reading, Wanted
from resources.sources.sample import SampleSource
from tests.market.market_desk import GOOD, HEADER, Desk

WANTED = Wanted(None, date(2000, 1, 1), date(2020, 1, 1), "1d")
BAD = "symbol,date,open,high,low,kurs,volume\n" + GOOD.replace("AAPL", "MSFT") + "\n"


def text(*lines: str) -> str:
    return "\n".join([HEADER, *lines]) + "\n"


def stored(desk: Desk) -> list[str]:
    return desk.bars()["symbol"].tolist()


def commit_unvalidated(desk: Desk) -> None:
    """As homes have it whose payloads were committed before anybody looked at them."""
    desk.lake.land(desk.source, WANTED)
    with pytest.raises(CandlecastError):
        ingest(desk.lake, desk.warehouse)


def test_a_file_that_cannot_be_validated_never_lands_and_the_others_do(desk: Desk) -> None:
    for number in range(5):
        desk.write(f"good{number}.csv", text(GOOD.replace("AAPL", f"S{number}")))
    desk.write("bad.csv", BAD)
    with pytest.raises(PayloadsRefusedError, match=r"1 of 6 payloads.*\n.*bad\.csv: no column for close.*'kurs'"):
        desk.land()
    assert ingest(desk.lake, desk.warehouse).kept == 5
    with pytest.raises(PayloadsRefusedError, match=r"bad\.csv"):
        desk.land()
    assert (len(desk.lake.batches()), len(desk.lake.refused(desk.source))) == (1, 1)
    desk.ingest_text(text(GOOD.replace("AAPL", "MSFT")), "bad.csv")
    assert (stored(desk)[0], len(stored(desk)), desk.lake.refused(desk.source)) == ("MSFT", 6, [])


def test_a_file_that_breaks_the_validation_is_refused_by_name(desk: Desk) -> None:
    frame = pd.DataFrame({"symbol": ["A"], "date": [pd.Timestamp("2012-01-03")], "open": [b"x"]})
    frame[["high", "low", "close", "volume"]] = 1.0
    frame.to_parquet(desk.folder / "a.parquet")
    desk.write("b.csv", text(GOOD))
    with pytest.raises(PayloadsRefusedError, match=r"a\.parquet"):
        desk.land()
    assert ingest(desk.lake, desk.warehouse).kept == 1


@pytest.mark.parametrize("remedy", ["corrected", "removed", "columns"])
def test_a_bad_payload_that_was_committed_is_healed(desk: Desk, remedy: str) -> None:
    desk.ingest_text(text(GOOD), "a.csv")
    desk.write("b.csv", BAD)
    commit_unvalidated(desk)
    if remedy == "corrected":
        desk.write("b.csv", BAD.replace("kurs", "close"))
    elif remedy == "removed":
        (desk.folder / "b.csv").unlink()
    else:
        desk.write("a.csv", text(GOOD).replace("close", "kurs"))
        desk = replace(desk, reading=replace(desk.reading, columns={"close": "kurs"}))
    desk.ingest()
    assert stored(desk) == (["AAPL"] if remedy == "removed" else ["AAPL", "MSFT"])
    before = desk.bars()
    rebuild(desk.lake, desk.warehouse)
    pd.testing.assert_frame_equal(desk.bars(), before)


def test_a_bad_payload_that_stands_is_named_until_it_is_healed(desk: Desk) -> None:
    desk.write("b.csv", BAD)
    commit_unvalidated(desk)
    desk.write("c.csv", text(GOOD))
    desk.land()
    with pytest.raises(CandlecastError, match=r"b\.csv: no column for close"):
        ingest(desk.lake, desk.warehouse)


def test_what_was_validated_when_it_landed_is_not_validated_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("a.csv", text(GOOD))
    desk.land()
    monkeypatch.setattr("assets.market.ingest.landing.stage_batch", None)
    assert ingest(desk.lake, desk.warehouse).kept == 1
    assert list((desk.home.scratch / STAGED).iterdir()) == []
    assert ingest(desk.lake, desk.warehouse) == Ingested()


def test_a_symbol_of_another_source_never_lands_not_even_by_the_drop_folder(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    sample = Wanted(None, date(2012, 1, 1), date(2012, 1, 31), "1d")
    land(desk.lake, desk.warehouse, SampleSource(Reading("XNYS", "1d")), sample)
    ingest(desk.lake, desk.warehouse)
    desk.write("x.csv", text(GOOD, GOOD.replace("AAPL", "ZZZ")))
    desk.write("y.csv", text(GOOD.replace("AAPL", "YYY")))
    with pytest.raises(PayloadsRefusedError, match=r"x\.csv: AAPL at 1d already comes from source 'sample'"):
        desk.land()
    assert ingest(desk.lake, desk.warehouse).kept == 1
    inbox = desk.folder.parent / "inbox"
    inbox.mkdir()
    (inbox / "x.csv").write_text(text(GOOD))
    (inbox / "z.csv").write_text(text(GOOD.replace("AAPL", "ZZZ")))
    bad, good = take_dropped_files(inbox, desk.reading, desk.home, later(inbox))
    assert (bad.outcome, good.outcome) == ("refused", "done")
    assert "AAPL at 1d already comes from source 'sample'" in bad.reason
    assert ingest(desk.lake, desk.warehouse).kept == 1


@pytest.mark.parametrize("step", ["payload", "batch"])
def test_the_lake_waits_for_a_process_that_writes_there(desk: Desk, step: str) -> None:
    """Two processes that number their batches at once would overwrite one of them."""
    desk.write("bars.csv", f"{HEADER}\n{GOOD}\n")
    pattern = "files/*.parquet" if step == "payload" else "batches/*.json"
    if step == "batch":
        # As after a kill before the commit: the payload has arrived.
        desk.land()
        next(desk.home.lake.glob(pattern)).unlink()
    landing = threading.Thread(target=desk.land)
    with exclusive_lock(desk.home.lake / LOCK):
        landing.start()
        landing.join(1.5)
        assert landing.is_alive() and not list(desk.home.lake.glob(pattern))
    landing.join(60)
    assert len(list(desk.home.lake.glob(pattern))) == 1


def later(folder: Path) -> float:
    return max(file.stat().st_mtime for file in folder.iterdir()) + 60


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
@pytest.mark.parametrize("lost", [True, False], ids=["without a warehouse", "with a warehouse"])
def test_a_damaged_payload_is_set_aside_and_fetched_again(desk: Desk, damage: str, lost: bool) -> None:
    desk.ingest_text(f"{HEADER}\n{GOOD}\n")
    (file,) = (desk.home.lake / "files").glob("*.parquet")
    before, whole = desk.bars(), file.read_bytes()
    if damage == "changed":
        table = pq.read_table(file)
        row = table.schema.get_field_index("close")
        pq.write_table(table.set_column(row, "close", pa.array(["10.75"], table.schema.field(row).type)), file)
    elif damage == "cut":
        file.write_bytes(whole[:100])
    else:
        file.unlink()
    if lost:
        desk.home.warehouse.unlink()
        with pytest.raises(CandlecastError, match=rf"bars\.csv: its payload {file}"):
            ingest(desk.lake, desk.warehouse)
    desk.ingest()
    assert is_intact(file) and file.read_bytes() == whole
    aside = list((desk.home.root / "damaged" / "lake").rglob("*.parquet"))
    assert len(aside) == (damage != "gone")
    pd.testing.assert_frame_equal(desk.bars().drop(columns="available_at"), before.drop(columns="available_at"))


@pytest.mark.parametrize("lost", [1, 2])
def test_a_batch_that_was_lost_is_landed_again_under_a_new_number(desk: Desk, lost: int) -> None:
    desk.ingest_text(text(GOOD), "a.csv")
    desk.ingest_text(text(GOOD.replace("AAPL", "MSFT")), "b.csv")
    set_aside(desk.home.lake / "batches" / f"{lost:08d}.json", desk.home.root)
    desk.write("a.csv", text(GOOD.replace("10.5,", "10.7,")))
    desk.write("b.csv", text(GOOD.replace("AAPL", "MSFT").replace("10.5,", "10.8,")))
    desk.ingest()
    assert [batch.number for batch in desk.lake.batches()] == [number for number in (1, 2, 3) if number != lost]
    assert desk.bars()["close"].tolist() == [10.7, 10.8]
    rebuild(desk.lake, desk.warehouse)
    assert desk.bars()["close"].tolist() == [10.7, 10.8]
