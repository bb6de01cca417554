"""New files, corrected files, rebuilt warehouses: what changes, what does not, and what was known when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from assets.market.acceptance import conservation_errors
from assets.market.actions import refresh_actions
from assets.market.ingest.digests import digest_of_bars, session_digests
from assets.market.ingest.ingest import MARKET_TABLES, Ingested, ingest, ingest_batch, rebuild
from assets.market.ingest.lake import Lake
from assets.market.ingest.pending import pending_sessions
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import MarketSettings, Settings
from resources.sources.sample import SampleSource
from resources.warehouse import Warehouse
from tests.market.market_desk import GOOD, HEADER, Desk, make_desk_in

DAYS = pd.bdate_range("2012-01-03", "2012-01-13")


def prices(symbol: str = "AAPL", days: pd.DatetimeIndex = DAYS, step: float = 0.1, **closes: float) -> list[str]:
    """One line a day; `closes` say otherwise, `d0105=…`."""
    lines = []
    for number, day in enumerate(days):
        close = closes.get(f"d{day:%m%d}", 10 + step * number)
        lines.append(f"{symbol},{day.date()},10,20,5,{close:g},100")
    return lines


def text(*lines: str) -> str:
    return "\n".join([HEADER, *lines]) + "\n"


def everything(warehouse: Warehouse) -> dict[str, pd.DataFrame]:
    """All that the market stage stored."""
    return {name: warehouse.frame(f"FROM {name} ORDER BY ALL") for name in MARKET_TABLES}


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], obj=name)


def settings_of(desk: Desk) -> Settings:
    market = MarketSettings(source="files", path="*", start=date(2012, 1, 3), end=date(2012, 1, 31))
    return Settings(market=market, root=desk.folder, home=desk.home.root)


def pending(desk: Desk) -> list[date]:
    calendar = TradingCalendar("XNYS", "1d")
    return pending_sessions(settings_of(desk), desk.home, desk.warehouse, calendar, desk.source)


def test_a_second_ingest_of_the_same_files_writes_nothing(desk: Desk) -> None:
    desk.ingest_text(text(*prices()))
    written = desk.warehouse.path.stat().st_mtime_ns
    assert desk.ingest() == Ingested()
    assert desk.warehouse.path.stat().st_mtime_ns == written
    assert len(desk.lake.batches()) == 1


def test_a_new_file_touches_only_its_sessions(desk: Desk) -> None:
    desk.ingest_text(text(*prices()))
    before = session_digests(desk.warehouse, "1d")
    desk.write("new.csv", text("AAPL,2012-01-17,10,20,5,11,100"))
    assert pending(desk) == [date(2012, 1, 17)]
    done = desk.ingest()
    assert (done.kept, done.sessions) == (1, (date(2012, 1, 17),))
    after = session_digests(desk.warehouse, "1d")
    pd.testing.assert_frame_equal(after[after["session"] < date(2012, 1, 17)], before)
    assert pending(desk) == []


@pytest.mark.slow
def test_a_file_that_grew_by_a_day_adds_that_day(desk: Desk) -> None:
    desk.ingest_text(text(*prices()))
    done = desk.ingest_text(text(*prices(), "AAPL,2012-01-17,10,20,5,11,100"))
    assert (done.received, done.kept, done.folded, done.sessions) == (10, 1, 9, (date(2012, 1, 17),))


def test_a_corrected_file_changes_only_what_it_corrects(desk: Desk) -> None:
    desk.ingest_text(text(*prices()))
    before = session_digests(desk.warehouse, "1d").set_index("session")["digest"]
    desk.write("bars.csv", text(*prices(d0106=11.5)))
    assert pending(desk) == [date(2012, 1, 6)]
    done = desk.ingest()
    assert done.sessions == (date(2012, 1, 6),)
    after = session_digests(desk.warehouse, "1d").set_index("session")["digest"]
    assert before.index[before != after].tolist() == [date(2012, 1, 6)]
    versions = desk.warehouse.frame("FROM bar_versions ORDER BY since")
    assert versions["close"].tolist() == pytest.approx([10.3, 11.5])
    assert versions["payload_sha256"][1] == desk.bars().set_index("session").loc["2012-01-06", "payload_sha256"]


def test_a_row_that_a_corrected_file_no_longer_has_is_withdrawn(desk: Desk) -> None:
    desk.ingest_text(text(*prices()))
    lines = prices()
    done = desk.ingest_text(text(*lines[:3], *lines[4:]))
    # The session after it is touched as well: it now follows a gap.
    assert done.sessions == (date(2012, 1, 6), date(2012, 1, 9))
    assert len(desk.bars()) == len(lines) - 1
    assert desk.warehouse.frame("FROM bar_versions WHERE withdrawn")["session"].dt.day.tolist() == [6]
    assert desk.bars().set_index("session").loc["2012-01-09", "flags"] == ["after_gap"]


def test_a_row_that_another_file_also_has_is_not_withdrawn(desk: Desk) -> None:
    desk.write("a.csv", text(*prices()))
    desk.write("b.csv", text(*prices()))
    assert desk.ingest().folded == len(DAYS)
    desk.write("a.csv", text(*prices()[:3]))
    desk.ingest()
    assert len(desk.bars()) == len(DAYS)


def test_a_bad_row_in_a_corrected_file_does_not_destroy_the_good_one(desk: Desk) -> None:
    desk.ingest_text(text(*prices()))
    done = desk.ingest_text(text(*[line.replace("2012-01-06,10", "2012-01-06,ten") for line in prices()]))
    assert (done.rejected, done.sessions) == (1, ())
    assert len(desk.bars()) == len(DAYS)


def test_a_later_file_wins_over_an_earlier_one(desk: Desk) -> None:
    desk.ingest_text(text(GOOD), "first.csv")
    desk.ingest_text(text(GOOD.replace("10.5", "10.7")), "fix.csv")
    assert desk.bars()["close"].tolist() == [10.7]


def test_bars_are_shown_as_they_were_known_on_a_day(desk: Desk, moments: Callable[[], None]) -> None:
    desk.ingest_text(text(*prices()))
    first = desk.warehouse.frame("SELECT max(available_at) AS at FROM bars")["at"][0]
    moments()
    desk.ingest_text(text(*prices(d0106=11.5)[:-1]))
    known = desk.warehouse.frame("SELECT * FROM bars_as_known($at) ORDER BY ts", {"at": first})
    assert known["close"].tolist() == pytest.approx([10 + 0.1 * number for number in range(len(DAYS))])
    now = desk.warehouse.frame("SELECT * FROM bars_as_known(TIMESTAMP '2999-01-01') ORDER BY ts")
    pd.testing.assert_frame_equal(now, desk.bars().drop(columns="flags"))
    # From the moment on at which a bar is replaced, only the new one is known.
    then = desk.warehouse.frame("SELECT * FROM bars_as_known($at) ORDER BY ts", {"at": first + timedelta(hours=1)})
    pd.testing.assert_frame_equal(then, now)
    assert desk.warehouse.frame("SELECT * FROM bars_as_known(TIMESTAMP '1999-01-01')").empty


def test_bars_as_known_have_no_flags_of_today_in_a_warehouse_of_an_earlier_version_either(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ingest_text(text(*prices()))
    for access in ("read", "write"):
        with desk.warehouse.write() as connection:
            connection.execute("DROP MACRO TABLE bars_as_known")
            connection.execute("CREATE MACRO bars_as_known(moment) AS TABLE SELECT * FROM bars")
            connection.execute("DROP TABLE schema_version")
        monkeypatch.setattr("resources.warehouse._current", set())
        later = desk.warehouse
        with getattr(later, access)() as connection:
            known = connection.execute("FROM bars_as_known(TIMESTAMP '2999-01-01')").df()
        assert list(known) == [name for name in desk.bars() if name != "flags"]


def test_the_warehouse_rebuilt_from_the_lake_equals_the_original(desk: Desk) -> None:
    desk.ingest_text(text(*prices(), "AAPL,2012-01-16,10,20,5,11,100"))
    desk.ingest_text(text(*prices("MSFT")), "msft.csv")
    desk.ingest_text(text(*prices(d0106=11.5), "AAPL,2012-01-17,1,2,3,4,5"))
    refresh_actions(desk.warehouse)
    original = everything(desk.warehouse)
    assert original["bar_versions"]["close"].tolist() == pytest.approx([10.3, 11.5])
    assert original["rejected_bars"]["rule"].tolist() == ["not_a_session", "low_above_high"]
    rebuild(desk.lake, desk.warehouse)
    same(everything(desk.warehouse), original)


def test_the_market_tables_of_an_earlier_version_are_rebuilt_by_the_next_ingest(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.ingest_text(text(*prices()))
    desk.ingest_text(text(*prices(d0106=11.5)))
    refresh_actions(desk.warehouse)
    original = everything(desk.warehouse)
    with desk.warehouse.write() as connection:
        connection.execute("CREATE TABLE superseded_bars AS FROM bar_versions")
        connection.execute("DROP MACRO TABLE bars_as_known")
        connection.execute("DROP TABLE bar_versions")
        connection.execute("DROP TABLE schema_version")
    monkeypatch.setattr("resources.warehouse._current", set())
    assert pending(desk) == [date(2012, 1, 31)]
    assert ingest(desk.lake, desk.warehouse) == Ingested()
    same(everything(desk.warehouse), original)
    assert pending(desk) == []


def test_a_rebuild_is_refused_where_the_lake_has_lost_a_batch(desk: Desk) -> None:
    desk.ingest_text(text(*prices()))
    desk.ingest_text(text(*prices(d0106=11.5)))
    (desk.home.lake / "batches" / "00000002.json").unlink()
    before = desk.bars()
    with pytest.raises(CandlecastError, match=r"\b2\b.*candlecast rebuild"):
        rebuild(desk.lake, desk.warehouse)
    pd.testing.assert_frame_equal(desk.bars(), before)


def test_the_digest_of_bars_does_not_depend_on_how_they_came(tmp_path: Path) -> None:
    whole, parts = make_desk_in(tmp_path / "whole"), make_desk_in(tmp_path / "parts")
    whole.ingest_text(text(*prices(), *prices("MSFT")))
    parts.ingest_text(text(*reversed(prices("MSFT"))), "one.csv")
    parts.ingest_text(text(*prices()[:4]), "two.csv")
    parts.ingest_text(text(*prices()[4:]), "three.csv")
    digests = [digest_of_bars(session_digests(desk.warehouse, "1d")) for desk in (whole, parts)]
    assert digests[0] == digests[1]


def test_the_sessions_that_the_files_have_are_pending_before_the_first_ingest(desk: Desk) -> None:
    desk.write("bars.csv", text(*prices()))
    found = pending(desk)
    assert (found[0], found[-1], len(found)) == (date(2012, 1, 3), date(2012, 1, 13), 9)


def test_a_file_of_rejected_rows_alone_is_still_to_be_taken(desk: Desk) -> None:
    desk.write("bars.csv", text("AAPL,2012-01-07,10,11,9,10.5,1"))
    assert pending(desk) == [date(2012, 1, 31)]


def test_a_file_without_usable_rows_counts_for_a_session_whose_partition_is_open(desk: Desk) -> None:
    """Between the close of the exchange and 00:00 UTC the partition of the newest session isn't open yet."""
    desk.ingest_text(text(*prices()))
    desk.write("bad.csv", "no,bars\nat,all\n")
    calendar = TradingCalendar("XNYS", "1d")
    for now, newest in ((datetime(2012, 1, 25, 22), date(2012, 1, 24)), (datetime(2012, 1, 26, 1), date(2012, 1, 25))):
        found = pending_sessions(settings_of(desk), desk.home, desk.warehouse, calendar, desk.source, now)
        assert found == [newest]


def test_a_payload_that_landed_but_was_not_ingested_is_pending(desk: Desk) -> None:
    desk.ingest_text(text(*prices()))
    desk.write("new.csv", text("AAPL,2012-01-17,10,20,5,11,100"))
    desk.land()
    assert pending(desk) == [date(2012, 1, 17)]
    assert ingest(desk.lake, desk.warehouse).kept == 1


def test_a_batch_that_another_process_put_in_is_left_alone(desk: Desk) -> None:
    desk.ingest_text(text(*prices()))
    assert ingest_batch(desk.lake.batches()[0], desk.lake, desk.warehouse) == Ingested()


def test_another_reading_of_the_same_file_is_a_revision(tmp_path: Path) -> None:
    desk = make_desk_in(tmp_path)
    desk.ingest_text("symbol,date,open,high,low,close,volume,last\n" + GOOD + ",10.9\n")
    again = make_desk_in(tmp_path, columns={"close": "last"})
    assert again.ingest().kept == 1
    assert again.bars()["close"].tolist() == [10.9]


def test_a_symbol_comes_from_one_source(desk: Desk) -> None:
    from resources.sources.protocol import Reading, Wanted

    desk.ingest_text(text(GOOD))
    desk.lake.land(SampleSource(Reading("XNYS", "1d")), Wanted(None, date(2012, 1, 1), date(2012, 1, 31), "1d"))
    with pytest.raises(CandlecastError, match=r"AAPL at 1d already comes from source 'files'.*CANDLECAST_HOME"):
        ingest(desk.lake, desk.warehouse)
    assert len(desk.bars()) == 1


CHANGED_BARS = "SELECT symbol, ts FROM bar_versions GROUP BY ALL HAVING count(DISTINCT close) > 1"


def closes(desk: Desk) -> dict[int, float]:
    bars = desk.bars()
    return dict(zip(bars["session"].dt.day.tolist(), bars["close"].tolist(), strict=True))


def assert_rebuilds(desk: Desk) -> None:
    """A rebuild from the lake gives the same tables, and the bars as known now are the bars."""
    known = desk.warehouse.frame("FROM bars_as_known(TIMESTAMP '2999-01-01') ORDER BY frequency, symbol, ts")
    pd.testing.assert_frame_equal(known, desk.bars().drop(columns="flags"))
    refresh_actions(desk.warehouse)
    original = everything(desk.warehouse)
    rebuild(desk.lake, desk.warehouse)
    same(everything(desk.warehouse), original)
    assert conservation_errors(desk.warehouse, desk.lake) == []


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A clock of the lake that stands still until it is called: an hour later then."""
    now = [datetime(2020, 1, 1)]
    monkeypatch.setattr("assets.market.ingest.lake.utc_now", lambda: now[0])

    def advance() -> None:
        now[0] += timedelta(hours=1)

    return advance


def test_going_back_to_an_earlier_content_is_a_new_version(desk: Desk, moments: Callable[[], None]) -> None:
    known = {}
    for hour, close in enumerate(("10.5", "10.6", "10.5"), 1):
        desk.ingest_text(text(GOOD.replace("10.5", close)))
        known[datetime(2020, 1, 1, hour - 1)] = [float(close)]
        moments()
    for moment, expected in known.items():
        found = desk.warehouse.frame("SELECT close FROM bars_as_known($at)", {"at": moment})
        assert found["close"].tolist() == expected
    versions = desk.warehouse.frame("FROM bar_versions ORDER BY recorded")
    assert versions["close"].tolist() == [10.5, 10.6, 10.5]
    assert versions["available_at"].is_monotonic_increasing
    assert_rebuilds(desk)


def test_another_reading_does_not_backdate_history(desk: Desk, moments: Callable[[], None]) -> None:
    desk.ingest_text(HEADER + ",last\n" + GOOD + ",10.9\n")
    moments()
    again = replace(desk, reading=replace(desk.reading, columns={"close": "last"}))
    again.ingest()
    assert again.bars()["available_at"].tolist() == [datetime(2020, 1, 1, 1)]


def test_a_payload_left_over_from_a_killed_run_does_not_backdate_history(
    desk: Desk, moments: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write("bars.csv", text(GOOD))
    with monkeypatch.context() as killed:
        killed.setattr(Lake, "_commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            desk.land()
    moments()
    desk.ingest_text(text(GOOD.replace("10.5", "10.6")))
    moments()
    desk.ingest_text(text(GOOD))
    assert desk.bars()["available_at"].tolist() == [datetime(2020, 1, 1, 2)]


FEW = prices(days=DAYS[:3])
FIXED = FEW[1].replace("10.1", "10.9")


def test_a_file_that_grew_does_not_undo_what_another_put_right(desk: Desk) -> None:
    desk.ingest_text(text(*FEW), "a.csv")
    desk.ingest_text(text(FIXED), "fix.csv")
    done = desk.ingest_text(text(*FEW, "AAPL,2012-01-06,10,20,5,11,100"), "a.csv")
    assert (done.kept, done.folded, done.sessions) == (1, 3, (date(2012, 1, 6),))
    assert closes(desk) == pytest.approx({3: 10, 4: 10.9, 5: 10.2, 6: 11})
    # New values of the first file are a new version.
    desk.ingest_text(text(FEW[0], FEW[1].replace("10.1", "10.7"), FEW[2]), "a.csv")
    assert closes(desk)[4] == 10.7
    assert_rebuilds(desk)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["revised", pytest.param("removed", marks=pytest.mark.slow)])
@pytest.mark.parametrize("grown", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_where_a_correction_is_withdrawn_the_newest_remaining_version_counts(
    desk: Desk, how: str, grown: bool, moments: Callable[[], None]
) -> None:
    desk.ingest_text(text(*FEW), "a.csv")
    moments()
    desk.ingest_text(text(FIXED, "AAPL,2012-01-09,10,20,5,12,100"), "fix.csv")
    moments()
    if grown:
        desk.ingest_text(text(*FEW, "AAPL,2012-01-06,10,20,5,11,100"), "a.csv")
    moments()
    if how == "revised":
        desk.ingest_text(text("AAPL,2012-01-09,10,20,5,12,100"), "fix.csv")
    else:
        (desk.folder / "fix.csv").unlink()
        assert pending(desk) == [date(2012, 1, 4)]
        desk.ingest()
    # What no other file says stays when a file is taken away: folders are tidied up.
    assert closes(desk)[4] == 10.1
    assert closes(desk)[9] == 12
    known = desk.warehouse.frame("SELECT close FROM bars_as_known($at) ORDER BY ts", {"at": datetime(2020, 1, 1, 2)})
    assert known["close"].tolist() == pytest.approx([10, 10.9, 10.2, *[11] * grown, 12])
    twice = "SELECT ts FROM bars_as_known($at) GROUP BY ts HAVING count(*) > 1"
    for hour in range(5):
        assert desk.warehouse.frame(twice, {"at": datetime(2020, 1, 1, hour)}).empty
    bar = desk.bars().set_index("session").loc["2012-01-04"]
    assert bar["payload_sha256"] == desk.lake.current()["files:a.csv"][0].sha256
    assert_rebuilds(desk)
    # The first file is the one that can withdraw it now.
    desk.ingest_text(text(FEW[0], FEW[2]), "a.csv")
    assert 4 not in closes(desk)
    assert_rebuilds(desk)


@pytest.mark.slow
def test_a_version_is_as_old_as_its_last_change(desk: Desk) -> None:
    desk.ingest_text(text(*FEW), "a.csv")
    desk.ingest_text(text(FIXED), "b.csv")
    desk.ingest_text(text(FIXED.replace("10.9", "10.7"), FEW[0]), "c.csv")
    desk.ingest_text(text(*FEW, "AAPL,2012-01-06,10,20,5,11,100"), "a.csv")
    desk.ingest_text(text(FEW[0]), "c.csv")
    assert closes(desk)[4] == 10.9
    (desk.folder / "b.csv").unlink()
    desk.ingest()
    assert closes(desk)[4] == 10.1
    assert_rebuilds(desk)


@pytest.mark.slow
def test_a_bar_that_two_files_hold_goes_when_neither_does(desk: Desk) -> None:
    desk.write("a.csv", text(*FEW))
    desk.write("b.csv", text(*FEW))
    desk.ingest()
    for name in ("b.csv", "a.csv"):
        desk.ingest_text(text(FEW[0], FEW[2]), name)
        assert (4 in closes(desk)) == (name == "b.csv")
        assert_rebuilds(desk)


@pytest.mark.slow
def test_the_same_rows_in_another_file_take_over_without_a_change(desk: Desk) -> None:
    desk.ingest_text(text(*FEW), "one.csv")
    desk.ingest_text(text(*FEW, "AAPL,2012-01-06,10,20,5,11,100"), "all.csv")
    (desk.folder / "one.csv").unlink()
    done = desk.ingest()
    assert (done.sessions, done.received) == ((), 0)
    assert desk.bars()["payload_sha256"].nunique() == 1
    assert desk.warehouse.frame(CHANGED_BARS).empty
    desk.ingest_text(text(*FEW[:2]), "all.csv")
    assert sorted(closes(desk)) == [3, 4]
    assert_rebuilds(desk)


def test_a_file_of_other_settings_is_not_taken_for_removed(desk: Desk) -> None:
    desk.ingest_text(text(*FEW), "a.csv")
    desk.write("sub/b.csv", text(FIXED))
    other = replace(desk, path="sub/*")
    other.ingest()
    assert [payload.request.file for payload in desk.lake.batches()[-1].payloads] == ["sub/b.csv"]


def test_an_unfinished_bar_is_taken_when_it_is_over(
    make_desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make_desk(calendar="24/7", frequency="1h")
    now = [datetime(2024, 3, 8, 12, 30)]
    monkeypatch.setattr("assets.market.ingest.lake.utc_now", lambda: now[0])
    lines = [f"BTC,2024-03-08 {hour}:00,10,11,9,10.5,1" for hour in (11, 12, 13)]
    desk.ingest_text(text(*lines))
    assert (len(desk.bars()), set(desk.rules())) == (1, {"not_closed_yet"})
    now[0] = datetime(2024, 3, 8, 12, 59)
    assert desk.ingest() == Ingested()
    now[0] = datetime(2024, 3, 8, 13, 1)
    assert (desk.ingest().kept, len(desk.bars())) == (1, 2)
    assert desk.ingest() == Ingested()
    now[0] = datetime(2024, 3, 8, 15)
    assert desk.ingest().kept == 1
    assert desk.bars()["available_at"].tolist() == [
        datetime(2024, 3, 8, 12, 30),
        datetime(2024, 3, 8, 13, 1),
        datetime(2024, 3, 8, 15),
    ]
    assert_rebuilds(desk)
