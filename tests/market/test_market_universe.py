"""The universe: listing, delisting, return of a symbol, survivorship bias."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from assets.market.universe import read_universe
from resources.errors import CandlecastError
from resources.settings import MarketSettings, Settings
from tests.market.market_desk import HEADER, Desk


def settings_of(desk: Desk, **market: object) -> Settings:
    values = {"source": "files", "path": "*", "start": date(2012, 1, 3), "end": date(2012, 12, 31), **market}
    return Settings(market=MarketSettings(**values), root=desk.folder.parent, home=desk.home.root)


def spans(**days: tuple[str, str]) -> str:
    lines = [HEADER]
    for symbol, (first, last) in days.items():
        lines += [f"{symbol},{day.date()},10,11,9,10,5" for day in pd.bdate_range(first, last)]
    return "\n".join(lines) + "\n"


def test_members_are_those_of_a_day(desk: Desk) -> None:
    desk.ingest_text(
        spans(OLD=("2012-01-03", "2012-02-03"), NEW=("2012-03-01", "2012-06-29"), BOTH=("2012-01-03", "2012-06-29"))
    )
    universe = read_universe(settings_of(desk), desk.warehouse)
    assert universe.members(date(2012, 2, 1)) == ["BOTH", "OLD"]
    assert universe.members(date(2012, 5, 1)) == ["BOTH", "NEW"]
    assert universe.note == ""


def test_a_universe_without_delistings_has_survivorship_bias(desk: Desk) -> None:
    desk.ingest_text(spans(A=("2012-01-03", "2012-06-29"), B=("2012-01-03", "2012-06-20")))
    universe = read_universe(settings_of(desk), desk.warehouse)
    assert universe.survivors_only
    assert "Survivorship bias" in universe.note
    assert universe.members(date(2012, 6, 29)) == ["A", "B"]


def test_a_members_file_takes_precedence_and_a_symbol_may_return(desk: Desk) -> None:
    desk.ingest_text(spans(A=("2012-01-03", "2012-06-29")))
    (desk.folder.parent / "members.csv").write_text("symbol,start,end\nA,2012-01-03,2012-01-31\na,2012-05-01,\n")
    universe = read_universe(settings_of(desk, members="members.csv"), desk.warehouse)
    assert [universe.members(date(2012, month, 15)) for month in (1, 3, 6)] == [["A"], [], ["A"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("symbol,start,end\nA,someday,\n", ", row 1"),
        ("symbol,start,end\nA,2012-01-31,2012-01-03\n", ", row 1: end 2012-01-03 is before start 2012-01-31"),
        ("symbol,start,end\n,2012-01-03,\n", ", row 1: the symbol is empty"),
        ("start,end,symbol\n2012-01-03,2012-01-31\n", ", row 1"),
        ("symbol,start,end\nÄ,2012-01-03,\n", ": not UTF-8"),
    ],
)
def test_an_invalid_members_file_is_refused_with_its_row(desk: Desk, text: str, expected: str) -> None:
    desk.ingest_text(spans(A=("2012-01-03", "2012-01-31")))
    (desk.folder.parent / "members.csv").write_text(text, encoding="latin-1")
    with pytest.raises(CandlecastError, match=rf"members\.csv{expected}"):
        read_universe(settings_of(desk, members="members.csv"), desk.warehouse)


def test_symbols_without_bars_are_named(desk: Desk) -> None:
    desk.ingest_text(spans(A=("2012-01-03", "2012-01-31")))
    assert list(read_universe(settings_of(desk, symbols=("a",)), desk.warehouse).memberships) == ["A"]
    with pytest.raises(CandlecastError, match=r"no bars of B;.*: A$"):
        read_universe(settings_of(desk, symbols=("A", "B")), desk.warehouse)
