"""One partition a session, whatever the exchange's week and however far its calendar reaches."""

from datetime import date, timedelta

import pytest

from assets.sessions import KEY_FORMAT, session_partitions
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import Settings

YESTERDAY = date.today() - timedelta(days=1)


# A week from Sunday, one that changed, Orthodox Easters, calendars that end with the year, one that never closes.
@pytest.mark.parametrize("name", ["XNYS", "XSAU", "XTAE", "ASEX", "XSHG", "XBOM", "24/7"])
def test_every_session_that_is_over_has_a_partition_and_no_other_day(name):
    calendar = TradingCalendar(name)
    found = session_partitions(Settings(market={"calendar": name, "start": date(2021, 3, 1)}), calendar)
    sessions = calendar.sessions(date(2021, 3, 1), YESTERDAY)
    assert found.get_partition_keys() == [day.strftime(KEY_FORMAT) for day in sessions]


def test_sundays_are_sessions_in_tel_aviv_until_2026():
    days = TradingCalendar("XTAE").sessions(date(2025, 12, 1), date(2026, 1, 31))
    assert {day.date() for day in days if day.dayofweek == 6} >= {date(2025, 12, 7), date(2026, 1, 4)}
    assert max(day for day in days if day.dayofweek == 6).date() == date(2026, 1, 4)


def test_a_calendar_that_knows_none_of_the_days_is_refused():
    settings = Settings(
        market={"calendar": "XSAU", "start": date(2000, 3, 1), "end": date(2019, 1, 1)},
        windows={"train": ("2000-03-01", "2009-12-31")},
    )
    with pytest.raises(CandlecastError, match=r"XSAU knows no session in 2000-03-01 … 2019-01-01: set market\.start"):
        session_partitions(settings, TradingCalendar("XSAU"))
