"""Text tables: a line that is no row costs itself alone."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

from resources.errors import CandlecastError
from tests.market.market_desk import GOOD, HEADER, Desk


def rows(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


def march(count: int) -> list[str]:
    return [f"AAPL,{day.date()},10,11,9,10.5,1000" for day in pd.bdate_range("2012-03-01", periods=count)]


def test_an_unclosed_quote_takes_its_own_line_alone(desk: Desk) -> None:
    lines = march(20)
    lines[3] = lines[3].replace(",1000", ',"1000')
    lines[10] = lines[10].replace("AAPL", '"AAPL')
    done = desk.ingest_text(rows(*lines))
    assert (done.received, done.kept, done.rejected) == (20, 18, 2)
    rejected = desk.rejected()
    assert rejected["row_number"].tolist() == [4, 11]
    assert rejected["received"].tolist() == [lines[3], lines[10]]
    assert set(rejected["rule"]) == {"wrong_number_of_cells"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_between_two_stray_quotes_are_kept(desk: Desk, end: str) -> None:
    lines = march(8)
    lines[2] = lines[2].replace(",1000", ',"1000')
    lines[5] = lines[5].replace(",1000", ',1000"')
    done = desk.ingest_text(rows(*lines).replace("\n", end))
    assert (done.received, done.kept, desk.rules()) == (8, 6, ["wrong_number_of_cells", "not_a_number"])


def test_quoted_cells_hold_separators_and_quotes_beside_a_line_that_is_not_closed(desk: Desk) -> None:
    notes = ['"a, b"', '"say ""hi"", he said"', '5" disk', '"x"y"', '""', '"open', '"",']
    lines = [f"{line},{note}" for line, note in zip(march(7), notes, strict=True)]
    done = desk.ingest_text(rows(*lines, header=HEADER + ",note"))
    assert (done.received, done.kept) == (7, 5)
    assert desk.rejected()["row_number"].tolist() == [6, 7]


def test_a_cell_of_two_lines_costs_these_lines_and_no_other(desk: Desk) -> None:
    good = march(3)
    done = desk.ingest_text(rows(f"{good[0]},fine", f'{good[1]},"two\nlines"', f"{good[2]},", header=HEADER + ",note"))
    assert (done.received, done.kept, done.rejected) == (4, 2, 2)


def test_an_unclosed_quote_in_a_large_file_takes_its_own_line_alone(desk: Desk) -> None:
    line = '"AAPL","2012-03-01","10","11","9","10.5","1000"'
    done = desk.ingest_text(rows(line, '"AAPL,2012-03-02', *([line] * 200_000)))
    assert (done.received, done.kept, done.folded, done.rejected) == (200_002, 1, 200_000, 1)


def test_blank_lines_before_the_header_are_passed_over(desk: Desk) -> None:
    done = desk.ingest_text("\n  \r\n" + rows(GOOD, "AAPL,2012-01-04,10", "AAPL,2012-01-05,10,8,9,10.5,1"))
    assert (done.kept, done.rejected) == (1, 2)
    assert desk.rejected()["row_number"].tolist() == [2, 3]


def test_endings_in_capitals_are_read_alike(desk: Desk) -> None:
    assert desk.ingest_text(gzip.compress(rows(GOOD).encode()), "BARS.CSV.GZ").kept == 1


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ":"])
@pytest.mark.parametrize("line", ["sep={}\n", '"sep={}"\r\n', "\nSEP={}\n\n"])
def test_the_line_that_says_the_separator_is_no_header(desk: Desk, separator: str, line: str) -> None:
    table = f"{HEADER}\n{GOOD}\nAAPL,2012-01-04,ten,11,9,10.5,1\n".replace(",", separator)
    desk.ingest_text(line.format(separator) + table)
    assert len(desk.bars()) == 1
    assert desk.rejected()[["rule", "row_number"]].to_numpy().tolist() == [["not_a_number", 2]]


def test_a_file_with_only_a_separator_line_is_refused(desk: Desk) -> None:
    with pytest.raises(CandlecastError, match=r"bars\.csv: .*separator"):
        desk.ingest_text("sep=;\n")
