from __future__ import annotations

from assets.backtests.report.formatting import MISSING, interval, listing, number, typeset
from assets.backtests.report.verdict import excess_text, is_shown


def test_an_excess_is_shown_only_beyond_its_interval_and_beyond_luck() -> None:
    sure = {"excess_return_low": 0.01, "deflated_sharpe": 0.95, "sessions": 252.0}
    assert is_shown(sure, 0.9)
    assert not is_shown(sure | {"deflated_sharpe": 0.78}, 0.9)
    assert not is_shown(sure | {"excess_return_low": -0.01}, 0.9)
    assert not is_shown(sure | {"sessions": 251.0}, 0.9)
    assert not is_shown({"excess_return_low": 0.01, "sessions": 252.0}, 0.9)


def test_a_backtest_of_a_few_sessions_is_told_without_an_interval() -> None:
    few = {"excess_return": 0.2, "sessions": 12.0, "deflated_sharpe": 0.99}
    assert not is_shown(few, 0.9)
    assert "(12 sessions are too few for an interval)" in excess_text(few)


def test_numbers_have_units_real_minus_signs_and_no_minus_zero() -> None:
    assert number(-0.1234, "percent") == "\N{MINUS SIGN}12.3\N{NO-BREAK SPACE}%"
    assert number(-0.00001, "percent", signed=True) == "+0.0\N{NO-BREAK SPACE}%"
    assert number(float("nan")) == number(None) == MISSING
    assert number(1234.5, "count") == "1,234"
    assert interval(-0.1, 0.2, "percent") == "\N{MINUS SIGN}10.0\N{NO-BREAK SPACE}… 20.0\N{NO-BREAK SPACE}%"
    assert interval(None, 0.2) == MISSING


def test_words_are_typeset_without_touching_dates_or_names() -> None:
    assert typeset("Chronos-2: -2.5% on 2011-01-03") == "Chronos-2: \N{MINUS SIGN}2.5\N{NO-BREAK SPACE}% on 2011-01-03"
    assert listing(["a", "b", "c"]) == "a, b and c"
