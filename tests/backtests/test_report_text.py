from __future__ import annotations

from assets.backtests.report.formatting import MISSING, interval, listing, number, typeset
from assets.backtests.report.verdict import excess_text, is_significant


def test_an_excess_is_significant_by_interval_deflated_sharpe_and_sessions() -> None:
    significant = {"excess_return_low": 0.01, "alpha_low": 0.01, "deflated_sharpe": 0.95, "sessions": 252.0}
    assert is_significant(significant, 0.9)
    assert not is_significant(significant | {"deflated_sharpe": 0.78}, 0.9)
    assert not is_significant(significant | {"excess_return_low": -0.01}, 0.9)
    assert not is_significant(significant | {"alpha_low": -0.01}, 0.9), "an excess by market exposure alone"
    assert not is_significant(significant | {"sessions": 251.0}, 0.9)
    assert not is_significant({"excess_return_low": 0.01, "sessions": 252.0}, 0.9)


def test_a_backtest_of_a_few_sessions_has_no_interval() -> None:
    few = {"excess_return": 0.2, "sessions": 12.0, "deflated_sharpe": 0.99}
    assert not is_significant(few, 0.9)
    assert "12 sessions" in excess_text(few) and "…" not in excess_text(few)


def test_numbers_have_units_typographic_minus_signs_and_no_negative_zero() -> None:
    assert number(-0.1234, "percent") == "\N{MINUS SIGN}12.3\N{NO-BREAK SPACE}%"
    assert number(-0.00001, "percent", signed=True) == "+0.0\N{NO-BREAK SPACE}%"
    assert number(float("nan")) == number(None) == MISSING
    assert number(1234.5, "count") == "1,234"
    assert interval(-0.1, 0.2, "percent") == "\N{MINUS SIGN}10.0\N{NO-BREAK SPACE}… 20.0\N{NO-BREAK SPACE}%"
    assert interval(None, 0.2) == MISSING


def test_text_is_typeset_without_changing_dates_or_names() -> None:
    assert typeset("Chronos-2: -2.5% on 2011-01-03") == "Chronos-2: \N{MINUS SIGN}2.5\N{NO-BREAK SPACE}% on 2011-01-03"
    assert listing(["a", "b", "c"]) == "a, b and c"
