"""Every forecast is scored once against its actual, in prices of its origin; a changed actual is scored again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.acceptance import impossible_scores
from assets.evaluation.scoring import ACROSS_SYMBOLS, actuals_of, content_by_session, score_content, score_sessions
from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.origins import select_tasks
from assets.forecasts.generate import generate_forecasts
from assets.market.history import CLOSE, BarHistory
from resources.calendar import TradingCalendar
from resources.warehouse import Warehouse
from tests.forecasts.forecast_home import ForecastHome, open_home

FIRST, LAST = date(2012, 1, 3), date(2012, 10, 12)


def _scores(home: ForecastHome) -> pd.DataFrame:
    frame: pd.DataFrame = home.warehouse.frame("FROM forecast_scores ORDER BY ALL")
    return frame


def test_scoring_twice_adds_nothing_and_changes_no_byte(home: ForecastHome) -> None:
    histories = home.histories()
    first = score_sessions(home.warehouse, histories, [FIRST, LAST])
    before = home.warehouse.path.read_bytes()
    again = score_sessions(home.warehouse, histories, [FIRST, LAST])
    assert first.rows > 0
    assert again.rows == 0
    assert home.warehouse.path.read_bytes() == before
    assert impossible_scores(home.warehouse).empty


def test_day_by_day_gives_the_scores_of_one_run(home: ForecastHome) -> None:
    days = [session.date() for session in home.candlecast.calendar.sessions(date(2012, 2, 1), date(2012, 2, 15))]
    for day in days:
        score_sessions(home.warehouse, home.histories(last=day), [day])
    daily = _scores(home)
    with home.warehouse.write() as connection:
        connection.execute("DELETE FROM forecast_scores")
    score_sessions(home.warehouse, home.histories(), days)
    pd.testing.assert_frame_equal(daily, _scores(home))
    assert len(daily)


def test_hours_of_a_session_that_opens_on_the_utc_day_before_are_scored_day_by_day_too(tmp_path: Path) -> None:
    calendar = TradingCalendar("XASX", "1h")
    days = [session.date() for session in calendar.sessions(date(2012, 1, 3), date(2012, 2, 15))]
    stamps = calendar.stamps(days[0], days[-1]).to_numpy().astype("datetime64[s]")
    prices = 50 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.005, len(stamps))))
    ones = np.ones(len(stamps))
    whole = BarHistory("BHP", stamps, np.column_stack([*[prices] * 4, ones, ones]), ones, ones)
    ends = [calendar.stamps(day, day)[-1].to_datetime64().astype("datetime64[s]") for day in days]
    hourly = open_home(tmp_path).with_settings(market={"frequency": "1h", "calendar": "XASX"})
    tasks = select_tasks({"BHP": whole}, ends[20:-2], 90).tasks
    generate_forecasts(hourly.candlecast, baseline_forecasters(hourly.settings)[0], tasks)
    for day, end in zip(days, ends, strict=True):
        known = int(np.searchsorted(stamps, end, side="right"))
        until = replace(
            whole, **{name: getattr(whole, name)[:known] for name in ("stamps", "quoted", "growth", "shares")}
        )
        score_sessions(hourly.warehouse, {"BHP": until}, [day], calendar=calendar)
    daily = _scores(hourly)
    with hourly.warehouse.write() as connection:
        connection.execute("DELETE FROM forecast_scores")
    score_sessions(hourly.warehouse, {"BHP": whole}, days, calendar=calendar)
    pd.testing.assert_frame_equal(daily, _scores(hourly))
    assert set(daily["step"]) == set(range(1, 11))


def test_forecasts_of_another_frequency_keep_their_scores_and_get_none(home: ForecastHome) -> None:
    """A home with an hourly and a daily profile: the actuals of one are not in the bars of the other."""
    warehouse, histories = home.warehouse, home.histories()
    first, last = date(2012, 2, 1), date(2012, 3, 15)
    score_sessions(warehouse, histories, [FIRST, LAST])
    daily, content = _scores(home), score_content(warehouse, FIRST, LAST, 10, "1d")
    calendar = TradingCalendar("XNYS", "1h")
    stamps = calendar.stamps(first, last).to_numpy().astype("datetime64[s]")
    prices, ones = 50 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.005, len(stamps)))), np.ones(len(stamps))
    hours = {"IBM": BarHistory("IBM", stamps, np.column_stack([*[prices] * 4, ones, ones]), ones, ones)}
    profile = home.with_settings(market={"frequency": "1h"})
    hourly = baseline_forecasters(profile.settings)[0]
    generate_forecasts(profile.candlecast, hourly, select_tasks(hours, [stamps[100], stamps[150]], 90).tasks)
    assert score_sessions(warehouse, hours, [first, last], calendar=calendar).cells == 20
    both = _scores(home)
    pd.testing.assert_frame_equal(both[both["checkpoint"] != hourly.checkpoint].reset_index(drop=True), daily)
    assert len(both) > len(daily)
    again = score_sessions(warehouse, histories, [FIRST, LAST])
    assert (again.rows, again.without_actual) == (0, 0)
    pd.testing.assert_frame_equal(both, _scores(home))
    assert score_content(warehouse, FIRST, LAST, 10, "1d") == content


def test_a_corrected_bar_takes_no_score_of_another_frequency_that_shares_its_stamp(home: ForecastHome) -> None:
    warehouse, histories = home.warehouse, home.histories()
    score_sessions(warehouse, histories, [FIRST, LAST])
    half_hours = baseline_forecasters(home.with_settings(market={"frequency": "30min"}).settings)[0]
    with warehouse.write() as connection:
        recipe = json.dumps(half_hours.recipe)
        connection.execute("INSERT INTO forecast_recipes VALUES ('random_walk', 'c', NULL, ?)", [recipe])
        copied = "model = 'random_walk' AND symbol = 'IBM'"
        connection.execute(
            f"INSERT INTO forecast_scores SELECT * REPLACE ('c' AS checkpoint) FROM forecast_scores WHERE {copied}"
        )
    theirs = "SELECT count(*) AS n FROM forecast_scores WHERE checkpoint = 'c'"
    before = warehouse.frame(theirs)["n"][0]
    assert score_sessions(warehouse, _corrected(home, 160, 1.05), [FIRST, LAST]).rows > 0
    assert warehouse.frame(theirs)["n"][0] == before > 0


def test_a_score_is_what_one_computes_by_hand(home: ForecastHome) -> None:
    score_sessions(home.warehouse, home.histories(), [FIRST, LAST])
    history = home.histories()["IBM"]
    origin = home.origins(FIRST, LAST)[0]
    index = history.index_of(origin)
    assert index is not None
    last, actual = history.quoted[index, CLOSE], history.quoted[index + 4, CLOSE]
    found = home.warehouse.frame(
        "SELECT metric, value FROM forecast_scores "
        "WHERE model = 'random_walk' AND symbol = 'IBM' AND origin = ? AND step = 4",
        [origin.item()],
    ).set_index("metric")["value"]
    naive = np.abs(np.diff(history.closes_as_of(index)[-253:])).mean()
    assert np.isclose(found["absolute_error"], abs(actual - last) / last * 100)
    assert np.isclose(found["mase"], abs(actual - last) / naive)
    assert "direction" not in found.index


def test_the_actual_after_a_split_is_in_the_prices_before_it(home: ForecastHome) -> None:
    """AAPL closed at 88.99 on 2005-02-25 and, split 2:1, at 44.86 on the 28th: up .8 %, not down 50 %."""
    cells = pd.DataFrame(
        {
            "symbol": ["AAPL"],
            "origin": [pd.Timestamp("2005-02-25")],
            "step": [1],
            "target_ts": [pd.Timestamp("2005-02-28")],
        }
    )
    found = actuals_of(cells, home.histories()).iloc[0]
    assert found["last_close"] == 88.99
    assert np.isclose(found["actual"] / found["last_close"], 2 * 44.86 / 88.99)


def test_a_forecast_without_a_bar_at_its_target_is_scored_later(home: ForecastHome) -> None:
    halted = {
        name: replace(history, stamps=history.stamps[:-160], quoted=history.quoted[:-160]) if name == "IBM" else history
        for name, history in home.histories().items()
    }
    early = score_sessions(home.warehouse, halted, [FIRST, LAST])
    assert early.without_actual > 0
    late = score_sessions(home.warehouse, home.histories(), [FIRST, LAST])
    assert late.without_actual == 0
    assert late.rows > 0
    assert score_sessions(home.warehouse, home.histories(), [FIRST, LAST]).rows == 0
    assert impossible_scores(home.warehouse).empty


def _corrected(home: ForecastHome, days_before_end: int, factor: float) -> dict[str, BarHistory]:
    """The histories with one close of IBM changed."""
    histories = home.histories()
    quoted = histories["IBM"].quoted.copy()
    quoted[-days_before_end, CLOSE] *= factor
    return {**histories, "IBM": replace(histories["IBM"], quoted=quoted)}


def test_a_bar_that_is_corrected_is_scored_anew_and_nothing_else_is(home: ForecastHome) -> None:
    warehouse = home.warehouse
    score_sessions(warehouse, home.histories(), [FIRST, LAST])
    before = _scores(home)
    corrected = _corrected(home, 160, 1.05)
    changed = score_sessions(warehouse, corrected, [FIRST, LAST])
    after = _scores(home)
    assert 0 < changed.rows < 0.2 * len(before)
    assert score_sessions(warehouse, corrected, [FIRST, LAST]).rows == 0
    with warehouse.write() as connection:
        connection.execute("DELETE FROM forecast_scores")
    score_sessions(warehouse, corrected, [FIRST, LAST])
    pd.testing.assert_frame_equal(after, _scores(home))
    key = [name for name in before if name != "value"]
    both = before.merge(after, on=key, how="outer", suffixes=("_before", "_after"), indicator=True)
    different = both[both["value_before"] != both["value_after"]]
    assert set(different["symbol"]) == {"IBM", ACROSS_SYMBOLS}
    assert impossible_scores(warehouse).empty


def test_the_scores_of_a_bar_that_is_withdrawn_go_with_it(home: ForecastHome) -> None:
    warehouse, histories = home.warehouse, home.histories()
    score_sessions(warehouse, histories, [FIRST, LAST])
    ibm = histories["IBM"]
    gone = len(ibm.stamps) - 160
    without = replace(ibm, stamps=np.delete(ibm.stamps, gone), quoted=np.delete(ibm.quoted, gone, axis=0))
    score_sessions(warehouse, {**histories, "IBM": without}, [FIRST, LAST])
    after = _scores(home)
    about = (
        "SELECT DISTINCT s.symbol FROM forecast_scores s JOIN forecast_quantiles USING (model, symbol, origin, step) "
        "WHERE target_ts = ?"
    )
    assert set(warehouse.frame(about, [ibm.stamps[gone].item()])["symbol"]) == {"AAPL", "GOOG", "MSFT"}
    with warehouse.write() as connection:
        connection.execute("DELETE FROM forecast_scores")
    score_sessions(warehouse, {**histories, "IBM": without}, [FIRST, LAST])
    pd.testing.assert_frame_equal(after, _scores(home))
    score_sessions(warehouse, histories, [FIRST, LAST])
    assert len(_scores(home)) > len(after)


def test_scores_of_a_home_without_scored_actuals_are_computed_again_and_equal(home: ForecastHome) -> None:
    """Scores without their actuals are computed again, with equal results."""
    warehouse, histories = home.warehouse, home.histories()
    score_sessions(warehouse, histories, [FIRST, LAST])
    before = _scores(home)
    with warehouse.write() as connection:
        connection.execute("DELETE FROM scored_actuals")
    assert score_sessions(warehouse, histories, [FIRST, LAST]).rows == len(before)
    pd.testing.assert_frame_equal(before, _scores(home))
    assert score_sessions(warehouse, histories, [FIRST, LAST]).rows == 0


def test_actuals_stored_by_schema_version_2_are_migrated(home: ForecastHome, monkeypatch: pytest.MonkeyPatch) -> None:
    score_sessions(home.warehouse, home.histories(), [FIRST, LAST])
    before = home.warehouse.frame("FROM scored_actuals ORDER BY ALL")
    with home.warehouse.write() as connection:
        connection.execute("ALTER TABLE scored_actuals RENAME COLUMN actual TO truth")
        connection.execute("ALTER TABLE scored_actuals RENAME COLUMN last_close TO last")
        connection.execute("ALTER TABLE scored_actuals RENAME TO scored_truths")
        connection.execute("UPDATE schema_version SET version = 2")
    monkeypatch.setattr("resources.warehouse._current", set())
    pd.testing.assert_frame_equal(Warehouse(home.warehouse.path).frame("FROM scored_actuals ORDER BY ALL"), before)
    assert score_sessions(home.warehouse, home.histories(), [FIRST, LAST]).rows == 0


def test_a_symbol_that_comes_later_enters_the_rank_correlation(home: ForecastHome) -> None:
    warehouse, histories = home.warehouse, home.histories()
    with warehouse.write() as connection:
        for table in ("forecasts", "forecast_quantiles"):
            connection.execute(f"DELETE FROM {table} WHERE symbol = 'AAPL'")
    ranks = "SELECT * FROM forecast_scores WHERE symbol = ? AND model = 'drift' ORDER BY ALL"
    score_sessions(warehouse, histories, [FIRST, LAST])
    without = warehouse.frame(ranks, [ACROSS_SYMBOLS])
    tasks = home.tasks(FIRST, date(2012, 9, 28))
    for forecaster in baseline_forecasters(home.settings):
        generate_forecasts(home.candlecast, forecaster, tasks)
    score_sessions(warehouse, histories, [FIRST, LAST])
    with_it = warehouse.frame(ranks, [ACROSS_SYMBOLS])
    assert len(with_it) == len(without)
    assert (with_it["value"] != without["value"]).mean() > 0.5
    assert impossible_scores(warehouse).empty


def test_a_doubled_or_impossible_score_is_found(home: ForecastHome) -> None:
    score_sessions(home.warehouse, home.histories(), [FIRST, LAST])
    with home.warehouse.write() as connection:
        connection.execute("INSERT INTO forecast_scores SELECT * FROM forecast_scores WHERE metric = 'crps' LIMIT 1")
        connection.execute(
            "INSERT INTO forecast_scores VALUES ('kronos', 'c', 'A', TIMESTAMP '2012-01-03', 1, 'coverage_80', 0.5)"
        )
    wrong = impossible_scores(home.warehouse)
    assert sorted(wrong["metric"]) == ["coverage_80", "crps"]
    [doubled] = wrong.loc[wrong["metric"] == "crps", "origin"]
    at = impossible_scores(home.warehouse, doubled.date(), doubled.date() + timedelta(days=1))
    assert sorted(at["metric"]) == ["coverage_80", "crps"], "duplicates of those origins, ranges of all"
    after = impossible_scores(home.warehouse, doubled.date() + timedelta(days=1))
    assert after["metric"].tolist() == ["coverage_80"]


def test_the_content_of_one_session_is_that_of_the_session_among_all(home: ForecastHome) -> None:
    score_sessions(home.warehouse, home.histories(), [FIRST, LAST])
    calendar = home.candlecast.calendar
    days = [session.date() for session in calendar.sessions(FIRST, LAST)]
    whole = content_by_session(home.warehouse, days, calendar)
    assert whole
    alone = [content_by_session(home.warehouse, [day], calendar) for day in days]
    assert {day: content for one in alone for day, content in one.items()} == whole
    targets = "SELECT DISTINCT origin, step, target_ts FROM forecast_quantiles"
    scores = home.warehouse.frame(f"SELECT target_ts FROM forecast_scores JOIN ({targets}) USING (origin, step)")
    within = scores["target_ts"].between(pd.Timestamp(FIRST), pd.Timestamp(LAST) + timedelta(days=1), inclusive="left")
    assert sum(rows for rows, _ in whole.values()) == within.sum()
