"""What bad input gets: a named rejection beside the good rows, or an error that says file and remedy."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.market.ingest.ingest import ingest
from assets.market.ingest.refusals import PayloadsRefusedError, refusal_of
from resources.errors import CandlecastError
from tests.market.market_desk import GOOD, HEADER, Desk, make_desk_in


def rows(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


BAD_LINES = [
    ("AAPL,2012-01-04,ten,11,9,10.5,1000", "not_a_number"),
    ("AAPL,2012-01-04,10,11,9,10.5,many", "not_a_number"),
    ("AAPL,2012-01-04,1_0,11,9,10.5,1000", "not_a_number"),
    ("AAPL,2012-01-04,10,11,9,10.5,1_000", "not_a_number"),
    ("AAPL,2012-01-04,10,11,9,,1000", "missing_price"),
    ("AAPL,2012-01-04,NaN,11,9,10.5,1000", "price_not_finite"),
    ("AAPL,2012-01-04,10,inf,9,10.5,1000", "price_not_finite"),
    ("AAPL,2012-01-04,10,1e308,9,10.5,1000", "price_out_of_range"),
    ("AAPL,2012-01-04,10,1e999,9,10.5,1000", "price_not_finite"),
    ("AAPL,2012-01-04,10,11,-9,10.5,1000", "price_not_positive"),
    ("AAPL,2012-01-04,0,11,0,10.5,1000", "price_not_positive"),
    ("AAPL,2012-01-04,10,9,11,10.5,1000", "low_above_high"),
    ("AAPL,2012-01-04,12,11,9,10.5,1000", "open_outside_range"),
    ("AAPL,2012-01-04,10,11,9,8.5,1000", "close_outside_range"),
    ("AAPL,2012-01-04,10,11,9,10.5,-1", "negative_volume"),
    ("AAPL,2012-01-04,10,11,9,10.5,inf", "volume_out_of_range"),
    ("AAPL,2012-01-07,10,11,9,10.5,1000", "not_a_session"),
    ("AAPL,2012-01-02,10,11,9,10.5,1000", "not_a_session"),
    ("AAPL,2999-01-02,10,11,9,10.5,1000", "in_the_future"),
    ("AAPL,1950-01-03,10,11,9,10.5,1000", "before_the_calendar"),
    ("AAPL,soon,10,11,9,10.5,1000", "unreadable_date"),
    ("AAPL,2012-13-45,10,11,9,10.5,1000", "unreadable_date"),
    ("AAPL,,10,11,9,10.5,1000", "missing_date"),
    ("AAPL,01/04/2012,10,11,9,10.5,1000", "mixed_date_format"),
    ("AAPL,2012-01-04T00:00:00Z,10,11,9,10.5,1000", "mixed_time_zone"),
    (",2012-01-04,10,11,9,10.5,1000", "missing_symbol"),
    ("AAPL,2012-01-04,10,11,9,10.5", "wrong_number_of_cells"),
    ("AAPL,2012-01-04,10,11,9,10.5,1000,7", "wrong_number_of_cells"),
]
BAD_SYMBOLS = [
    ("NA", "reserved_symbol"),
    ("NULL", "reserved_symbol"),
    ("nan", "reserved_symbol"),
    ("CON", "reserved_symbol"),
    ("../../etc", "bad_symbol"),
    ('"say ""hi"""', "bad_symbol"),
    ("O'Hara", "bad_symbol"),
    ("TWO WORDS", "bad_symbol"),
    ("🚀", "bad_symbol"),
    ("X" * 300, "bad_symbol"),
    ("a\\b", "bad_symbol"),
    ("'; DROP TABLE bars; --", "bad_symbol"),
    ("aapl", "symbol_in_other_case"),
]


@pytest.fixture(scope="module")
def one_file_of_everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, set[Path]]:
    """A desk that was given every bad line at once, between good ones; and what was there besides its home."""
    folder = tmp_path_factory.mktemp("bad")
    desk = make_desk_in(folder)
    lines = [line for line, _ in BAD_LINES] + [f"{symbol},2012-02-01,10,11,9,10.5,1000" for symbol, _ in BAD_SYMBOLS]
    days = pd.bdate_range("2012-03-01", periods=60).drop("2012-04-06")[: len(lines)]
    good = [f"AAPL,{day.date()},10,11,9,10.5,1000" for day in days]
    desk.write("bars.csv", rows(*(line for pair in zip(lines, good, strict=True) for line in pair)))
    before = set(folder.rglob("*"))
    done = desk.ingest()
    assert (done.kept, done.rejected) == (len(good), len(lines))
    return desk, {path for path in folder.rglob("*") if desk.home.root not in path.parents} - before - {desk.home.root}


@pytest.mark.parametrize(("position", "line", "rule"), [(i, *pair) for i, pair in enumerate(BAD_LINES)])
def test_a_bad_row_is_rejected_by_name_and_its_neighbours_are_kept(
    one_file_of_everything: tuple[Desk, set[Path]], position: int, line: str, rule: str
) -> None:
    desk, _ = one_file_of_everything
    rejected = desk.rejected().set_index("row_number").loc[2 * position + 1]
    assert rejected["rule"] == rule
    assert rejected["file"] == "bars.csv"
    assert len(rejected["reason"]) > 10
    for cell in [cell for cell in line.split(",") if cell]:
        assert cell in rejected["received"]


@pytest.mark.parametrize(("position", "rule"), [(i, rule) for i, (_, rule) in enumerate(BAD_SYMBOLS)])
def test_a_symbol_that_breaks_tools_is_rejected(
    one_file_of_everything: tuple[Desk, set[Path]], position: int, rule: str
) -> None:
    desk, _ = one_file_of_everything
    row = 2 * (len(BAD_LINES) + position) + 1
    assert desk.rejected().set_index("row_number").loc[row, "rule"] == rule


def test_nothing_outside_the_home_is_touched(one_file_of_everything: tuple[Desk, set[Path]]) -> None:
    assert one_file_of_everything[1] == set()


def test_equal_duplicates_are_folded_and_counted(desk: Desk) -> None:
    done = desk.ingest_text(rows(GOOD, GOOD, GOOD))
    assert (done.received, done.kept, done.folded, done.rejected) == (3, 1, 2, 0)


def test_unequal_duplicates_are_all_rejected(desk: Desk) -> None:
    done = desk.ingest_text(rows(GOOD, "AAPL,2012-01-03,10,11,9,10.6,1000", "MSFT,2012-01-03,10,11,9,10.5,1000"))
    assert (done.kept, done.rejected) == (1, 2)
    assert set(desk.rules()) == {"conflicting_duplicate"}


def test_files_of_one_delivery_that_contradict_each_other_are_both_rejected(desk: Desk) -> None:
    desk.write("a.csv", rows(GOOD))
    done = desk.ingest_text(rows("AAPL,2012-01-03,10,11,9,10.6,1000"), "b.csv")
    assert (done.kept, done.rejected) == (0, 2)
    assert desk.rejected()["file"].tolist() == ["a.csv", "b.csv"]


def test_unsorted_rows_are_sorted(desk: Desk) -> None:
    desk.ingest_text(rows("AAPL,2012-01-05,10,11,9,10.5,1", "AAPL,2012-01-03,10,11,9,10.5,2", GOOD.replace("03", "04")))
    assert desk.bars()["ts"].is_monotonic_increasing
    assert desk.rules() == []


def test_a_daily_file_with_several_bars_a_session_is_rejected_not_merged(desk: Desk) -> None:
    done = desk.ingest_text(rows("AAPL,2012-01-03 10:00:00,10,11,9,10.5,1", "AAPL,2012-01-03 11:00:00,10,11,9,10.4,1"))
    assert (done.kept, set(desk.rules())) == (0, {"conflicting_duplicate"})


def test_a_jump_without_an_action_is_kept_and_flagged(desk: Desk) -> None:
    desk.ingest_text(rows(GOOD, "AAPL,2012-01-04,6,6.5,5.5,6.2,1000", "AAPL,2012-01-05,12.4,12.5,12,12.4,1000"))
    flags = [list(flags) for flags in desk.bars()["flags"]]
    assert flags == [[], ["jump"], ["jump", "looks_like_split"]]


def test_a_jump_that_a_split_explains_is_not_flagged(desk: Desk) -> None:
    header = HEADER + ",split"
    desk.ingest_text(rows(GOOD + ",1", "AAPL,2012-01-04,2.6,2.7,2.5,2.6,4000,4", header=header))
    assert [list(flags) for flags in desk.bars()["flags"]] == [[], []]


def test_an_unclosed_bar_is_turned_away_until_it_is_over(desk: Desk) -> None:
    import exchange_calendars

    calendar = exchange_calendars.get_calendar("XNYS")
    coming = calendar.date_to_session(pd.Timestamp.now().normalize(), "next")
    if calendar.session_close(coming) < pd.Timestamp.now(tz="UTC"):
        coming = calendar.next_session(coming)
    desk.ingest_text(rows(GOOD, f"AAPL,{coming.date()},10,11,9,10.5,1000"))
    assert desk.rules()[0] in ("not_closed_yet", "in_the_future")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_any_usual_separator_is_understood(desk: Desk, separator: str) -> None:
    assert desk.ingest_text(rows(GOOD).replace(",", separator)).kept == 1


def test_a_byte_order_mark_is_no_part_of_the_header(desk: Desk) -> None:
    assert desk.ingest_text("\ufeff".encode() + rows(GOOD).encode()).kept == 1


def test_utf_16_is_understood(desk: Desk) -> None:
    assert desk.ingest_text(rows(GOOD).encode("utf-16")).kept == 1


def test_decimal_commas_and_points_of_thousands_are_understood(desk: Desk) -> None:
    desk.ingest_text(
        rows("AAPL;2012-01-03;1.010,5;1.011;1.009,25;1.010;12.345", header=HEADER.replace(",", ";")), "comma.csv"
    )
    bar = desk.bars().iloc[0]
    assert (bar["open"], bar["high"], bar["low"], bar["close"], bar["volume"]) == (1010.5, 1011, 1009.25, 1010, 12345)


def test_separators_of_thousands_are_understood(desk: Desk) -> None:
    desk.ingest_text(rows('AAPL,2012-01-03,"1,010.5",1011,"1,009.25",1010,"12,345"'))
    bar = desk.bars().iloc[0]
    assert (bar["open"], bar["volume"]) == (1010.5, 12345)


def test_prices_with_two_readings_are_refused(desk: Desk) -> None:
    with pytest.raises(CandlecastError, match=r"bars\.csv.*1,234"):
        desk.ingest_text(rows('AAPL,2012-01-03,"1,010","1,011","1,009","1,010",12345'))


@pytest.mark.parametrize(
    ("cells", "volumes"),
    [
        (["12.345", "1.234.567"], [12345, 1234567]),
        (["12,345", "1,234,567"], [12345, 1234567]),
        (["0,123", "2,5"], [0.123, 2.5]),
        (["0.123", "12,345"], [0.123, 12345]),
    ],
)
def test_beside_whole_prices_the_volumes_tell_the_decimal_mark(
    desk: Desk, cells: list[str], volumes: list[float]
) -> None:
    days = (f"AAPL;2012-01-0{day};10;11;9;10;{cell}" for day, cell in zip((3, 4), cells, strict=True))
    desk.ingest_text(rows(*days, header=HEADER.replace(",", ";")))
    assert desk.bars()["volume"].tolist() == volumes


def test_a_zero_before_the_mark_is_no_group_of_thousands(desk: Desk) -> None:
    header = HEADER.replace(",", ";")
    found = desk.ingest_text(rows("AAPL;2012-01-03;10.5;11;9;10;0,123", header=header))
    assert (found.kept, desk.rules()) == (0, ["not_a_number"])
    desk.ingest_text(rows("COIN;2012-01-03;0,123;0,124;0,122;0,123;1", header=header), "cents.csv")
    assert desk.bars()["open"].tolist() == [0.123]


def test_blanks_in_a_number_stand_where_thousands_have_them(desk: Desk) -> None:
    lines = ["03;1 010,5;1\u202f011;1\u00a0009;1'010;1 000 000", "04;10 5,5;110;9;10;1", "05;10,5;11;9;10;1 2"]
    found = desk.ingest_text(rows(*(f"AAPL;2012-01-{line}" for line in lines), header=HEADER.replace(",", ";")))
    assert (found.kept, desk.rules()) == (1, ["not_a_number"] * 2)
    assert desk.bars()[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == [
        [1010.5, 1011, 1009, 1010, 1000000]
    ]


def test_one_odd_cell_does_not_decide_how_all_prices_are_read(desk: Desk) -> None:
    days = pd.bdate_range("2012-03-01", periods=60).drop("2012-04-06")
    lines = [f"AAPL;{day.date()};1,010;1,011;1,009;1,010;5" for day in days]
    lines[7] = lines[7].replace("1,011", "1,5")
    with pytest.raises(CandlecastError, match=r"bars\.csv.*1,234"):
        desk.ingest_text(rows(*lines, header=HEADER.replace(",", ";")))


@pytest.mark.parametrize("split", ["1e9", "1e-300", "-2"])
def test_a_split_beyond_any_is_no_action(desk: Desk, split: str) -> None:
    desk.ingest_text(rows(f"{GOOD},{split}", header=HEADER + ",split"))
    assert desk.rules() == ["impossible_action"]


def test_a_lone_comma_costs_its_own_row(desk: Desk) -> None:
    found = desk.ingest_text(rows(GOOD, 'AAPL,2012-01-04,",",11,9,10,100'))
    assert (found.kept, found.rejected) == (1, 1)


DATES = [
    "20120131",
    "2012/01/31",
    "31.01.2012",
    "01/31/2012",
    "31-Jan-2012",
    "Jan 31, 2012",
    "2012-01-31 00:00:00-05:00",
    "2012-01-31T00:00:00Z",
    "2012-01-31T21:00:00+00:00",
    "2012-01-31 16:00",
    "1327968000",
    "1327968000000",
]


@pytest.fixture(scope="module")
def one_file_a_format(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = make_desk_in(tmp_path_factory.mktemp("dates"))
    for number, date in enumerate(DATES):
        desk.write(f"F{number}.csv", rows(f'F{number},"{date}",10,11,9,10.5,1000'))
    desk.ingest()
    return desk


@pytest.mark.parametrize(("number", "date"), list(enumerate(DATES)))
def test_dates_as_people_write_them(one_file_a_format: Desk, number: int, date: str) -> None:
    bars = one_file_a_format.bars().set_index("symbol")
    assert str(bars["session"].dt.date[f"F{number}"]) == "2012-01-31"


def test_the_calendar_decides_which_number_is_the_day(desk: Desk) -> None:
    # 7 January 2012 is a Saturday; 1 July 2012 is a Sunday; only one reading of all of these are sessions.
    desk.ingest_text(rows(*(f"AAPL,{day:02}/01/2012,10,11,9,10.5,1" for day in (3, 4, 5, 6, 9, 10))))
    assert desk.bars()["session"].dt.month.unique().tolist() == [1]


def test_dates_with_two_readings_are_refused(desk: Desk) -> None:
    with pytest.raises(CandlecastError, match=r"bars\.csv.*market\.date_order"):
        desk.ingest_text(rows("AAPL,04/05/2012,10,11,9,10.5,1"))


def test_a_missing_column_is_refused_with_the_header_and_the_remedy(desk: Desk) -> None:
    with pytest.raises(CandlecastError, match=r"bars\.csv: no column for high.*'hi-tide'.*market\.columns"):
        desk.ingest_text(rows(GOOD, header="symbol,date,open,hi-tide,low,close,volume"))


def test_a_renamed_column_is_read_when_the_settings_say_which(make_desk) -> None:  # type: ignore[no-untyped-def]
    desk = make_desk(columns={"high": "hi-tide"})
    assert desk.ingest_text(rows(GOOD, header="symbol,date,open,hi-tide,low,close,volume")).kept == 1


def test_a_mapped_column_that_is_not_there_is_refused(make_desk) -> None:  # type: ignore[no-untyped-def]
    desk = make_desk(columns={"high": "top"})
    with pytest.raises(CandlecastError, match=r"bars\.csv: .*'top'.*market\.columns\.high"):
        desk.ingest_text(rows(GOOD))


def test_extra_columns_stay_in_the_lake_and_trouble_nobody(desk: Desk) -> None:
    assert desk.ingest_text(rows(GOOD + ",hello", header=HEADER + ",note")).kept == 1


@pytest.mark.parametrize(
    "header",
    [
        "Ticker,Date,Open,High,Low,Close,Volume",
        "sym,ts,o,h,l,c,v",
        "CODE,Trade Date,Open Price,High Price,Low,Last,Vol",
    ],
)
def test_headers_as_vendors_write_them(desk: Desk, header: str) -> None:
    assert desk.ingest_text(rows(GOOD, header=header)).kept == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (rows(GOOD, header="symbol,date,open,high,high,close,volume"), "'high'"),
        (rows(GOOD, header="symbol,date,Open,open ,high,low,close"), "'open'"),
        ("", "empty"),
        ("\n\n", "empty"),
        (GOOD + "\n" + GOOD + "\n", "add a header line"),
        (b"symbol,date,open\xff\xfe\xfa\n", "UTF-8"),
        (b"PAR1 this is not", "no column for"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(desk: Desk, content: str | bytes, message: str) -> None:
    with pytest.raises(CandlecastError, match=rf"bars\.csv.*{message}"):
        desk.ingest_text(content)
    assert not desk.warehouse.path.is_file() or desk.bars().empty


def test_a_file_with_only_a_header_gives_no_row_and_no_error(desk: Desk) -> None:
    assert desk.ingest_text(HEADER + "\n").received == 0


def test_a_truncated_parquet_is_refused_by_name(desk: Desk) -> None:
    file = desk.folder / "bars.parquet"
    pd.DataFrame({"symbol": ["AAPL"], "date": ["2012-01-03"]}).to_parquet(file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CandlecastError, match=r"bars\.parquet: .*Parquet"):
        desk.ingest()


def test_a_truncated_gzip_is_refused_by_name(desk: Desk) -> None:
    whole = gzip.compress(rows(*([GOOD] * 1000)).encode())
    with pytest.raises(CandlecastError, match=r"bars\.csv\.gz"):
        desk.ingest_text(whole[:-30], "bars.csv.gz")


def test_a_zip_bomb_is_refused_before_it_fills_the_disk(desk: Desk) -> None:
    bomb = gzip.compress(rows(GOOD).encode() + b"AAPL,2012-01-03,10,11,9,10.5,1000\n" * 4_000_000)
    assert len(bomb) < 1 << 20
    with pytest.raises(CandlecastError, match=r"bars\.csv\.gz: expands to more than"):
        desk.ingest_text(bomb, "bars.csv.gz")
    assert sum(file.stat().st_size for file in desk.home.root.rglob("*") if file.is_file()) < 1 << 20


def test_all_refused_files_are_named_at_once_and_the_others_are_taken(desk: Desk) -> None:
    desk.write("good.csv", rows(GOOD))
    desk.write("empty.csv", "")
    desk.write("broken.parquet", b"PAR1")
    with pytest.raises(CandlecastError, match=r"(?s)2 of 3 payloads.*the others are in.*broken\.parquet.*empty\.csv"):
        desk.ingest()
    assert [payload.request.file for batch in desk.lake.batches() for payload in batch.payloads] == ["good.csv"]


def test_a_parquet_of_typed_columns_keeps_its_nans_out(desk: Desk) -> None:
    frame = pd.DataFrame(
        {
            "symbol": ["AAPL"] * 3,
            "date": pd.to_datetime(["2012-01-03", "2012-01-04", "2012-01-05"]),
            "open": [10, float("nan"), 10],
            "high": [11, 11, float("inf")],
            "low": [9.0, 9, 9],
            "close": [10.5, 10.5, 10.5],
            "volume": [float("nan"), 1, 1],
        }
    )
    frame.to_parquet(desk.folder / "bars.parquet")
    desk.ingest()
    assert desk.rules() == ["missing_price", "price_not_finite"] or desk.rules() == ["price_not_finite"] * 2
    assert desk.bars()["volume"].isna().tolist() == [True]


def test_one_symbol_a_file_is_named_by_the_file(desk: Desk) -> None:
    desk.write("AAPL.csv", rows("2012-01-03,10,11,9,10.5,1000", header="date,open,high,low,close,volume"))
    desk.write("MSFT.csv", rows("2012-01-03,10,11,9,10.5,1000", header="date,open,high,low,close,volume"))
    desk.ingest()
    assert desk.bars()["symbol"].tolist() == ["AAPL", "MSFT"]


def test_a_first_column_without_a_name_holds_the_dates(desk: Desk) -> None:
    frame = pd.DataFrame({"open": [10], "high": [11], "low": [9], "close": [10]}, index=[pd.Timestamp("2012-01-03")])
    assert desk.ingest_text(frame.to_csv(), "AAPL.csv").kept == 1


def test_a_folder_without_files_is_refused_with_the_pattern(desk: Desk) -> None:
    with pytest.raises(CandlecastError, match=r"market\.path.*no \.csv"):
        desk.ingest()


def test_a_small_file_with_millions_of_rows_is_refused_by_name_and_the_others_are_taken(desk: Desk) -> None:
    rows = 3_000_000
    columns = {
        name: pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([value]))
        for name, value in zip(HEADER.split(","), GOOD.split(","), strict=True)
    }
    pq.write_table(pa.table(columns), desk.folder / "zeros.parquet", compression="zstd")
    wide = {**dict(zip(HEADER.split(","), ([cell] for cell in GOOD.split(",")), strict=True))}
    pq.write_table(pa.table({**wide, **{f"c{n}": [0] for n in range(5_000)}}), desk.folder / "wide.parquet")
    desk.write("good.csv", f"{HEADER}\n{GOOD}\n")
    with pytest.raises(PayloadsRefusedError) as refused:
        desk.land()
    size = (desk.folder / "zeros.parquet").stat().st_size
    assert size < rows
    reasons = {reason.split(":")[0]: reason for reason in refused.value.reasons}
    assert reasons.keys() == {"zeros.parquet", "wide.parquet"}
    assert f"{rows:,} rows in {size:,} bytes" in reasons["zeros.parquet"] and "5,007 columns" in reasons["wide.parquet"]
    assert ingest(desk.lake, desk.warehouse).kept == 1


def test_a_file_that_alone_exceeds_the_memory_limit_is_refused_by_name() -> None:
    with (
        duckdb.connect(config={"memory_limit": "8MB", "temp_directory": ""}) as connection,
        pytest.raises(duckdb.OutOfMemoryException) as full,
    ):
        connection.execute("CREATE TABLE t AS SELECT random() AS x FROM range(20_000_000)")
    assert "big.csv" in refusal_of(full.value, "big.csv")
