"""The digests that data versions are made of: equal bars, equal digest; any other value, another one."""

from datetime import date

import pytest

from assets.market.actions import refresh_actions
from assets.market.ingest.digests import digest_of_actions, digest_of_bars, session_digests
from tests.market.market_desk import HEADER, Desk

CHANGES = {
    "symbol": "'MSFT'",
    "ts": "ts + INTERVAL 1 HOUR",
    "open": "open + 0.25",
    "high": "high + 0.25",
    "low": "low - 0.25",
    "close": "close + 0.25",
    "volume": "volume + 1",
    "amount": "5.0",
    "dividend": "dividend + 0.25",
    "split": "2 * coalesce(split, 1)",
    "flags": "['jump']",
}


def stored(desk: Desk) -> None:
    desk.ingest_text(
        f"{HEADER},dividend,split\nIBM,2012-01-03,10,11,9,10.5,7,0,1\nIBM,2012-01-04,10,11,9,10.5,7,0.5,1\n"
    )


@pytest.mark.parametrize("column", CHANGES)
def test_every_value_of_a_bar_is_in_the_digest_of_its_session_alone(desk: Desk, column: str) -> None:
    stored(desk)
    before = session_digests(desk.warehouse, "1d").set_index("session")["digest"]
    with desk.warehouse.write() as connection:
        connection.execute(f"UPDATE bars SET {column} = {CHANGES[column]} WHERE session = '2012-01-04'")
    after = session_digests(desk.warehouse, "1d")
    changed = after.set_index("session")["digest"] != before
    assert changed.to_dict() == {date(2012, 1, 3): False, date(2012, 1, 4): True}
    assert digest_of_bars(after, [date(2012, 1, 3)]) != digest_of_bars(after)


@pytest.mark.parametrize("change", ["value = value + 0.01", "price_factor = price_factor * 0.99", "kind = 'split'"])
def test_every_value_of_an_action_is_in_the_digest(desk: Desk, change: str) -> None:
    stored(desk)
    refresh_actions(desk.warehouse)
    before = digest_of_actions(desk.warehouse)
    with desk.warehouse.write() as connection:
        connection.execute(f"UPDATE corporate_actions SET {change}")
    assert digest_of_actions(desk.warehouse) != before
