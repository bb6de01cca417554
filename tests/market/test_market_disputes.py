"""Files that conflict, that are renamed, or that are read with another calendar: which version of a bar is current."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from tests.market.market_desk import HEADER, Desk
from tests.market.test_market_revisions import CHANGED_BARS, FEW, assert_rebuilds, closes, moments, text

assert callable(moments)  # a fixture
OTHER = FEW[1].replace("10.1", "19")
LATER = "AAPL,2012-01-06,10,20,5,13,100"


@pytest.mark.parametrize(
    "how", ["removed", *(pytest.param(how, marks=pytest.mark.slow) for how in ("dropped", "broken", "moved"))]
)
def test_a_row_that_no_longer_conflicts_is_a_bar(desk: Desk, how: str, moments: Callable[[], None]) -> None:
    desk.write("a.csv", text(*FEW))
    desk.write("b.csv", text(OTHER, LATER))
    desk.ingest()
    assert sorted(closes(desk)) == [3, 5, 6]
    moments()
    if how == "removed":
        (desk.folder / "b.csv").unlink()
    else:
        rows = {"dropped": "", "broken": OTHER.replace("19", "ten"), "moved": OTHER.replace("01-04", "01-09")}
        desk.write("b.csv", text(*filter(None, [rows[how], LATER])))
    desk.ingest()
    assert closes(desk)[4] == 10.1
    bar = desk.bars().set_index("session").loc["2012-01-04"]
    assert (bar["batch"], bar["available_at"]) == (1, datetime(2020, 1, 1, 1))
    # The row of b.csv stays rejected, as it was received.
    assert desk.rules()[0] == "conflicting_duplicate"
    assert desk.rejected()["file"].unique().tolist() == ["b.csv"]
    assert_rebuilds(desk)
    # It is a.csv's bar: a.csv can correct it, and withdraw it.
    desk.ingest_text(text(FEW[0], FEW[1].replace("10.1", "10.7"), FEW[2]), "a.csv")
    assert closes(desk)[4] == 10.7
    desk.ingest_text(text(FEW[0], FEW[2]), "a.csv")
    assert 4 not in closes(desk)
    assert_rebuilds(desk)


@pytest.mark.slow
def test_a_row_stays_rejected_while_any_file_conflicts_with_it(desk: Desk) -> None:
    desk.write("a.csv", text(*FEW))
    desk.write("b.csv", text(OTHER, LATER))
    desk.write("c.csv", text(OTHER.replace("19", "18")))
    desk.ingest()
    desk.ingest_text(text(LATER), "b.csv")
    assert 4 not in closes(desk)
    desk.ingest_text(text(LATER.replace("01-06", "01-09")), "c.csv")
    assert closes(desk) == pytest.approx({3: 10, 4: 10.1, 5: 10.2, 6: 13, 9: 13})
    assert_rebuilds(desk)


@pytest.mark.slow
def test_a_conflicting_row_is_a_bar_when_the_correction_of_the_other_is_withdrawn(desk: Desk) -> None:
    desk.write("a.csv", text(*FEW))
    desk.write("b.csv", text(OTHER, LATER))
    desk.ingest()
    desk.ingest_text(text(OTHER.replace("19", "18"), LATER), "b.csv")
    assert closes(desk)[4] == 18
    desk.ingest_text(text(LATER), "b.csv")
    assert closes(desk)[4] == 10.1
    assert_rebuilds(desk)


@pytest.mark.slow
def test_files_that_still_conflict_do_not_replace_a_withdrawn_bar(desk: Desk) -> None:
    desk.write("a.csv", text(*FEW))
    desk.write("b.csv", text(OTHER, FEW[0]))
    desk.ingest()
    desk.ingest_text(text(OTHER.replace("19", "18"), LATER), "c.csv")
    desk.ingest_text(text(LATER), "c.csv")
    assert sorted(closes(desk)) == [3, 5, 6]
    assert_rebuilds(desk)


def test_a_symbol_that_no_other_file_writes_in_another_case_any_more_is_taken(desk: Desk) -> None:
    desk.write("aapl.csv", text(*[line.replace("AAPL", "aapl") for line in FEW]))
    desk.write("b.csv", text(LATER))
    desk.ingest()
    assert desk.rules() == ["symbol_in_other_case"]
    desk.ingest_text(text(*FEW), "aapl.csv")
    assert closes(desk)[6] == 13
    assert desk.rules() == []
    assert_rebuilds(desk)


@pytest.mark.slow
def test_a_split_that_was_derived_across_a_conflicting_row_is_derived_again(desk: Desk) -> None:
    header = f"{HEADER},adj_close\n"
    rows = [f"AAPL,2012-01-{day:02},{close},20,4,{close},100,{adjusted}\n" for day, close, adjusted in (
        (3, 10, 5), (4, 5, 5), (5, 5.1, 5.1), (6, 5.2, 5.2))]  # fmt: skip
    desk.write("a.csv", header + "".join(rows))
    desk.write("b.csv", header + rows[1].replace("5,100", "6,100"))
    desk.ingest()
    splits = "SELECT day(session)::INTEGER AS day, split FROM bars ORDER BY ts"
    assert dict(desk.warehouse.frame(splits).dropna().to_numpy().tolist())[5] == 2
    (desk.folder / "b.csv").unlink()
    desk.ingest()
    assert dict(desk.warehouse.frame(splits).dropna().to_numpy().tolist()) == {4: 2, 5: 1, 6: 1}
    assert_rebuilds(desk)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["renamed", pytest.param("moved", marks=pytest.mark.slow)])
def test_what_a_renamed_file_gives_it_can_withdraw(desk: Desk, how: str) -> None:
    desk.ingest_text(text(*FEW), "a.csv")
    if how == "renamed":
        (desk.folder / "a.csv").rename(desk.folder / "a2.csv")
    else:
        desk.write("a.csv", text(LATER))
        desk.write("a2.csv", text(*FEW))
    before = desk.bars()["available_at"].tolist()
    assert desk.ingest().sessions == (() if how == "renamed" else (datetime(2012, 1, 6).date(),))
    assert desk.bars()["available_at"].tolist()[:3] == before
    assert desk.warehouse.frame(CHANGED_BARS).empty
    desk.ingest_text(text(FEW[0], FEW[2]), "a2.csv")
    assert 4 not in closes(desk)
    assert_rebuilds(desk)


@pytest.mark.slow
def test_a_file_of_the_same_content_keeps_the_bars_of_one_that_is_renamed(desk: Desk) -> None:
    desk.write("a.csv", text(*FEW))
    desk.write("b.csv", text(*FEW))
    desk.ingest()
    (desk.folder / "a.csv").rename(desk.folder / "a2.csv")
    desk.ingest()
    for name in ("a2.csv", "b.csv"):
        desk.ingest_text(text(FEW[0], FEW[2]), name)
        assert (4 in closes(desk)) == (name == "a2.csv")
    assert (desk.warehouse.frame("FROM payloads")[["kept", "folded", "rejected"]] >= 0).all(axis=None)
    assert_rebuilds(desk)


@pytest.mark.slow
def test_a_bar_that_only_a_mistaken_calendar_has_goes_with_it(desk: Desk) -> None:
    # The 16th was a holiday in New York, and none in London.
    lines = [FEW[0], "AAPL,2012-01-16,10,20,5,13,100"]
    desk.ingest_text(text(*lines))
    london = replace(desk, reading=replace(desk.reading, calendar="XLON"))
    london.ingest()
    assert sorted(closes(desk)) == [3, 16]
    assert desk.ingest().sessions == (datetime(2012, 1, 16).date(),)
    assert sorted(closes(desk)) == [3]
    assert_rebuilds(desk)


@pytest.mark.slow
def test_a_bar_outside_the_hours_that_a_mistaken_calendar_had_goes_with_it(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(frequency="1h")
    always = replace(desk, reading=replace(desk.reading, calendar="24/7"))
    always.ingest_text(text("AAPL,2012-01-03T14:00Z,10,20,5,10,1", "AAPL,2012-01-04T02:00Z,10,20,5,10,1"))
    assert len(desk.bars()) == 2
    desk.ingest()
    assert desk.bars().empty
    assert_rebuilds(desk)


@pytest.mark.parametrize("removed_first", [False, True])
def test_a_header_alone_takes_back_a_symbol_that_came_by_mistake(desk: Desk, removed_first: bool) -> None:
    rows = [line.removeprefix("AAPL,") for line in FEW]
    header = HEADER.removeprefix("symbol,") + "\n"
    for name in ("AA.csv", "AA_copy.csv"):
        desk.write(name, header + "\n".join(rows))
    desk.ingest()
    symbols = "SELECT DISTINCT symbol FROM bars ORDER BY symbol"
    if removed_first:
        (desk.folder / "AA_copy.csv").unlink()
        assert desk.ingest().sessions == ()
        assert desk.warehouse.frame(symbols)["symbol"].tolist() == ["AA", "AA_COPY"]
    desk.ingest_text(header, "AA_copy.csv")
    assert desk.warehouse.frame(symbols)["symbol"].tolist() == ["AA"]
    (desk.folder / "AA_copy.csv").unlink()
    desk.ingest()
    assert desk.warehouse.frame(symbols)["symbol"].tolist() == ["AA"]
    assert_rebuilds(desk)
