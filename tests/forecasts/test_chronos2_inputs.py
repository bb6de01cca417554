"""Chronos-2 with several targets, covariates and groups: what it reads, and what cannot change its forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from chronos.chronos2.preprocess import from_list_of_dicts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.forecasting.chronos2.batches import Series, SeriesForecaster
from assets.forecasting.chronos2.forecaster import chronos2_forecaster
from assets.forecasting.chronos2.input_settings import event_columns
from assets.forecasting.chronos2.inputs import Chronos2Inputs
from assets.forecasting.chronos2.outputs import accumulate_returns
from assets.forecasting.chronos2.sources import events_table
from assets.forecasting.cross_section import MarketReturns
from assets.forecasting.forecaster import ForecastTask, Prediction
from assets.forecasting.known_events import EventTable, read_events
from assets.forecasts.batches import target_timestamps
from assets.forecasts.catalogue import FORECAST_ASSETS
from assets.forecasts.generate import generate_forecasts
from assets.market.history import FIELDS, VOLUME
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError, SettingsError
from resources.profiles import load_settings
from resources.settings import Chronos2Settings
from tests.forecasts.forecast_home import ForecastHome

LEVELS = (0.1, 0.5, 0.9)
RICH = {
    "targets": ("volume", "log_return", "range"),
    "past_covariates": ("market_return",),
    "future_covariates": ("weekday", "expiry", "rain", "meeting"),
}


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def events_file(folder: Path, last: str = "2012-05-01") -> str:
    """A value of `rain` on each day up to `last`, and two meetings."""
    days = np.arange(np.datetime64("2011-06-01"), np.datetime64(last) + 1)
    meetings = {np.datetime64("2012-03-13"): "rates", np.datetime64("2012-04-25"): "press"}
    rows = [f"{day},{2.5 * (number % 5)},{meetings.get(day, '')}" for number, day in enumerate(days)]
    return written(folder, "events.csv", "\n".join(["date,rain,meeting", *rows]))


def groups_file(folder: Path) -> str:
    return written(folder, "sectors.csv", "symbol,group\naapl,hardware\nIBM,hardware\nMSFT,software\nGOOG,software\n")


def rich_home(home: ForecastHome, folder: Path, **changes: object) -> ForecastHome:
    events = {"events": events_file(folder), "groups": groups_file(folder)}
    return home.with_settings(chronos2={**RICH, **events, "series_at_once": 8, **changes}, forecasts={"every": 1})


def forecast(home: ForecastHome, tasks: Sequence[ForecastTask]) -> Prediction:
    predict = chronos2_forecaster(home.settings, home.checkpoints).load()
    return predict(tasks, target_timestamps(tasks, home.candlecast.calendar, 10))


def changed_after_origin(task: ForecastTask, seed: int) -> ForecastTask:
    """The task over a history with other volumes, ranges and closes after its origin."""
    quoted = task.history.quoted.copy()
    quoted[task.index + 1 :] *= np.random.default_rng(seed).uniform(0.2, 5, size=quoted[task.index + 1 :].shape)
    return replace(task, history=replace(task.history, quoted=quoted))


def test_no_batch_order_or_later_bar_changes_a_bit(model_home: ForecastHome, tmp_path: Path) -> None:
    home = rich_home(model_home, tmp_path)
    tasks = home.tasks(date(2012, 3, 5), date(2012, 3, 7))
    whole = forecast(home, tasks)
    assert whole.fields == ("close", "range", "volume") and not whole.failures
    assert whole.quantiles.shape == (len(tasks), 10, 3, len(home.settings.forecasts.levels))

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.permutations(range(len(tasks))), st.integers(1, len(tasks)), st.integers(0, 2**31))
    def holds(order: Sequence[int], count: int, seed: int) -> None:
        part = [order[place] for place in range(count)]
        found = forecast(home, [changed_after_origin(tasks[number], seed) for number in part])
        assert (found.quantiles == whole.quantiles[part]).all()

    holds()


def test_what_is_known_over_the_horizon_reaches_the_model(model_home: ForecastHome, tmp_path: Path) -> None:
    home = rich_home(model_home, tmp_path)
    tasks = home.tasks(date(2012, 3, 5), date(2012, 3, 5))
    before = forecast(home, tasks)
    text = Path(str(home.settings.chronos2.events)).read_text()
    for old, new in (("2012-03-15,", "2012-03-15,9"), (",rates", ",")):
        written(tmp_path, "events.csv", text.replace(old, new))
        assert (forecast(home, tasks).quantiles != before.quantiles).any(axis=(1, 2, 3)).all()
    later = text.replace("2012-04-11,", "2012-04-11,9")
    assert later != text
    written(tmp_path, "events.csv", later)
    assert (forecast(home, tasks).quantiles == before.quantiles).all(), "beyond the horizon"


def test_members_of_a_group_change_each_other_and_no_other(model_home: ForecastHome, tmp_path: Path) -> None:
    home = rich_home(model_home, tmp_path, past_covariates=())
    tasks = home.tasks(date(2012, 3, 5), date(2012, 3, 5))
    symbols = [task.symbol for task in tasks]
    before = forecast(home, tasks).quantiles
    place = symbols.index("IBM")
    history = tasks[place].history
    quoted = history.quoted.copy()
    quoted[tasks[place].index - 5, VOLUME] *= 3
    other = [*tasks[:place], replace(tasks[place], history=replace(history, quoted=quoted)), *tasks[place + 1 :]]
    changed = (forecast(home, other).quantiles != before).any(axis=(1, 2, 3))
    assert {symbol for symbol, one in zip(symbols, changed, strict=True) if one} == {"AAPL", "IBM"}


def test_the_order_in_the_settings_is_irrelevant(model_home: ForecastHome, tmp_path: Path) -> None:
    home = rich_home(model_home, tmp_path, past_covariates=("market_return",))
    turned = home.with_settings(chronos2={name: values[::-1] for name, values in RICH.items()})
    ours, theirs = (chronos2_forecaster(one.settings, one.checkpoints) for one in (home, turned))
    assert ours.checkpoint == theirs.checkpoint
    tasks = home.tasks(date(2012, 3, 5), date(2012, 3, 5))
    assert (forecast(home, tasks).quantiles == forecast(turned, tasks).quantiles).all()


def test_the_recipe_of_the_close_alone_is_unchanged(model_home: ForecastHome) -> None:
    plain = chronos2_forecaster(model_home.settings, model_home.checkpoints).recipe
    assert plain["series_at_once"] == 64 and not {"inputs", "groups"} & set(plain)
    volume = model_home.with_settings(chronos2={"targets": ("close",), "past_covariates": ("volume",)})
    recipe = chronos2_forecaster(volume.settings, volume.checkpoints).recipe
    assert recipe["inputs"] == {"targets": ["close"], "past": ["volume"]}


def test_one_bad_series_is_named_and_changes_no_other(model_home: ForecastHome, tmp_path: Path) -> None:
    home = rich_home(model_home, tmp_path, groups=None)
    tasks = home.tasks(date(2012, 3, 5), date(2012, 3, 5))
    good = forecast(home, tasks)
    quoted = tasks[1].history.quoted.copy()
    quoted[:, VOLUME] = np.nan
    bad = [tasks[0], replace(tasks[1], history=replace(tasks[1].history, quoted=quoted)), *tasks[2:]]
    found = forecast(home, bad)
    assert list(found.failures) == [1]
    assert all(part in found.failures[1] for part in (tasks[1].symbol, "volume", "chronos2.targets"))
    kept = [place for place in range(len(tasks)) if place != 1]
    assert (found.quantiles[kept] == good.quantiles[kept]).all()
    assert np.isnan(found.quantiles[1]).all()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("date,rain\n2012-03-01,1\n2012-03-02,wet\n", ("row 2", "rain", "'wet'")),
        ("date,rain\n2012-03-01,1\n2012-03-02,-inf\n", ("row 2", "rain", "infinite")),
        ("date,snow\n2012-03-01,1\n", ("column rain",)),
        ("date,rain\n2012-03-01,1\n2012-03-01,2\n", ("row 2", "2012-03-01")),
        ("date,rain\n01/03/2012,1\n", ("row 1", "01/03/2012")),
        ("date,rain\n2012-03-01\n", ("row 1", "cells")),
    ],
)
def test_a_table_of_events_that_is_wrong_is_refused(
    model_home: ForecastHome, tmp_path: Path, text: str, parts: Sequence[str]
) -> None:
    home = model_home.with_settings(chronos2={"events": written(tmp_path, "events.csv", text)})
    with pytest.raises(CandlecastError) as caught:
        read_events(home.settings, ["rain"])
    assert all(part in str(caught.value) for part in ("events.csv", *parts))


@pytest.mark.parametrize(
    ("last", "cell", "parts"),
    [("2012-03-12", "", ("ends on 2012-03-12", "2012-03-19")), ("2012-05-01", "2012-03-14,", ("rain", "2012-03-14"))],
)
def test_a_covariate_that_is_not_known_over_the_horizon_is_named(
    model_home: ForecastHome, tmp_path: Path, last: str, cell: str, parts: Sequence[str]
) -> None:
    home = rich_home(model_home, tmp_path)
    lines = Path(events_file(tmp_path, last=last)).read_text().splitlines()
    written(tmp_path, "events.csv", "\n".join(line for line in lines if not cell or not line.startswith(cell)))
    tasks = home.tasks(date(2012, 3, 5), date(2012, 3, 5))
    failures = forecast(home, tasks).failures
    assert sorted(failures) == list(range(len(tasks)))
    assert all(part in failures[0] for part in (tasks[0].symbol, "chronos2.future_covariates", *parts))


def test_events_of_a_symbol_count_before_those_of_all(model_home: ForecastHome, tmp_path: Path) -> None:
    text = "date,symbol,rain\n2012-03-01,,1\n2012-03-01,ibm,5\n2012-03-02,IBM,\n2012-03-02,,3\n"
    home = model_home.with_settings(chronos2={"events": written(tmp_path, "events.csv", text)})
    table = read_events(home.settings, ["rain"])
    days = np.array(["2012-03-01", "2012-03-02", "2012-03-03"], dtype="datetime64[D]")
    assert table.values("rain", "IBM", days).tolist()[:2] == [5, 3]
    assert table.values("rain", "AAPL", days).tolist()[:2] == [1, 3]
    assert np.isnan(table.values("rain", "IBM", days)[2])


def test_a_later_category_changes_the_number_of_no_earlier_one(model_home: ForecastHome, tmp_path: Path) -> None:
    rows = "date,sky\n2012-03-02,wet\n2012-03-01,sunny\n2012-03-03,cloudy\n"
    days = np.array(["2012-03-01", "2012-03-02", "2012-03-03", "2012-03-04"], dtype="datetime64[D]")
    home = model_home.with_settings(chronos2={"events": written(tmp_path, "events.csv", rows)})
    before = read_events(home.settings, ["sky"])
    written(tmp_path, "events.csv", f"{rows}2012-06-01,blizzard\n2012-06-02,wet\n")
    after = read_events(home.settings, ["sky"])
    assert before.values("sky", "IBM", days).tolist() == after.values("sky", "IBM", days).tolist() == [1, 2, 3, 0]
    assert before.digest(date(2012, 5, 1)) == after.digest(date(2012, 5, 1))


def test_categories_are_encoded_as_chronos_encodes_them() -> None:
    random = np.random.default_rng(4)
    stamps = np.arange(np.datetime64("2012-01-02"), np.datetime64("2012-03-22")).astype("datetime64[s]")
    bars = np.exp(random.normal(4, 0.1, size=(70, len(FIELDS))))
    words = random.choice(["", "dry", "wet", "snow"], size=80)
    days = stamps.astype("datetime64[D]").tolist()
    rows = {("", day): {"sky": str(word)} for day, word in zip(days, words, strict=True) if word}
    table = EventTable("events", frozenset(), {"sky": ("", "dry", "snow", "wet")}, rows)
    ours = Chronos2Inputs(("close",), ("volume",), ("sky",), TradingCalendar("24/7"), table)
    context, future = ours.rows("X", stamps[:70], bars, stamps[70:])
    raw = {
        "target": np.log(bars[:, FIELDS.index("close")]),
        "past_covariates": {"volume": np.log1p(bars[:, VOLUME]), "sky": words[:70]},
        "future_covariates": {"sky": words[70:]},
    }
    theirs = from_list_of_dicts([raw], prediction_length=10)[0]
    np.testing.assert_array_equal(context, theirs["context"].numpy())
    assert future is not None
    np.testing.assert_array_equal(future, theirs["future_covariates"].numpy())


def test_the_forward_pass_has_the_bits_of_the_pipeline(model_home: ForecastHome) -> None:
    from chronos import Chronos2Pipeline

    weights = model_home.checkpoints.current("chronos2_model")
    assert weights is not None
    pipeline = Chronos2Pipeline.from_pretrained(weights.folder)
    random = np.random.default_rng(5)
    context = random.normal(size=(8, 3, 64)).astype(np.float32).cumsum(axis=2)
    future = np.full((8, 3, 10), np.nan, dtype=np.float32)
    future[:, 2] = random.normal(size=(8, 10))
    forecaster = SeriesForecaster(pipeline, 2, 10, LEVELS, 8)
    ours = forecaster.quantiles([Series(*rows) for rows in zip(context, future, strict=True)])
    raw = [
        {"target": c[:2], "past_covariates": {"x": c[2]}, "future_covariates": {"x": f[2]}}
        for c, f in zip(context, future, strict=True)
    ]
    theirs, _ = pipeline.predict_quantiles(raw, prediction_length=10, quantile_levels=list(LEVELS), batch_size=24)
    np.testing.assert_array_equal(ours, np.stack([one.numpy() for one in theirs]))
    with pytest.raises(CandlecastError, match=r"forecasts\.levels"):
        SeriesForecaster(pipeline, 2, 10, (0.001, 0.5), 8)


def test_returns_add_up_as_those_of_a_random_walk() -> None:
    spread = np.array([-1.3, 0.0, 1.3])
    returns = np.tile(0.001 + 0.02 * spread, (1, 9, 1))
    steps = np.arange(1, 10)[:, None]
    closes = accumulate_returns(returns, np.array([np.log(40.0)]), median=1)
    np.testing.assert_allclose(closes[0], np.log(40) + 0.001 * steps + 0.02 * np.sqrt(steps) * spread, rtol=1e-12)


def test_the_market_is_the_mean_of_known_returns() -> None:
    stamps = np.arange(np.datetime64("2012-01-02"), np.datetime64("2012-01-06")).astype("datetime64[s]")
    one, other = np.exp([1.0, 1.1, 1.3, 1.2]), np.exp([2.0, 2.4])
    market = MarketReturns.of([(stamps, one), (stamps[1:3], other)])
    np.testing.assert_allclose(market.at(stamps), [np.nan, 0.1, (0.2 + 0.4) / 2, -0.1])
    turned = MarketReturns.of([(stamps[1:3], other), (stamps, one)])
    assert (market.returns == turned.returns).all()
    later = MarketReturns.of([(stamps, one * [1, 1, 1, 3]), (stamps[1:3], other)])
    assert later.digest(stamps[2]) == market.digest(stamps[2])
    assert later.digest(stamps[3]) != market.digest(stamps[3])


def test_the_data_version_names_the_market_and_the_events(model_home: ForecastHome, tmp_path: Path) -> None:
    last = np.datetime64("2012-03-05")
    assert not list(chronos2_forecaster(model_home.settings, model_home.checkpoints).data(last))
    home = rich_home(model_home, tmp_path)
    read = chronos2_forecaster(home.settings, home.checkpoints).data
    before = list(read(last))
    assert len(before) == 2 and read(last - np.timedelta64(5, "D"))[0] != before[0]
    events_file(tmp_path, last="2012-05-02")
    assert read(last)[0] == before[0] and read(last)[1] != before[1]


def test_the_asset_names_the_fields_and_tables_that_were_read(model_home: ForecastHome, tmp_path: Path) -> None:
    home = rich_home(model_home, tmp_path, groups=groups_file(tmp_path))
    recipe = chronos2_forecaster(home.settings, home.checkpoints).recipe
    (asset,) = (one for one in FORECAST_ASSETS if one.name == "chronos2_forecasts")
    read = asset.reading([recipe], events_table(home.settings)).sources["value"]
    known = [*(f"events.{name}" for name in event_columns(home.settings)), "groups.group"]
    assert {"bars.volume", "bars.close", "corporate_actions.value", *known} <= set(read)
    assert "bars.amount" not in read and asset.reading([]).sources == asset.sources


def test_range_and_volume_are_stored_as_fields(home: ForecastHome, tmp_path: Path) -> None:
    from tests.forecasts.forecast_home import publish_tiny_chronos2

    publish_tiny_chronos2(home.checkpoints)
    rich = rich_home(home, tmp_path)
    forecaster = chronos2_forecaster(rich.settings, rich.checkpoints)
    assert generate_forecasts(rich.candlecast, forecaster, rich.tasks(date(2012, 3, 5), date(2012, 3, 5))).created
    found = rich.warehouse.frame("SELECT field, count(*) AS n, min(value) AS least FROM forecast_quantiles GROUP BY 1")
    assert sorted(found["field"]) == ["close", "range", "volume"]
    assert found["n"].nunique() == 1 and (found["least"] >= 0).all()


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ('targets = ["volume"]', "log_return"),
        ('targets = ["close", "log_return"]', "log_return"),
        ('targets = ["close", "volume"]\npast_covariates = ["volume"]', "volume"),
        ('future_covariates = ["rain"]', "events"),
    ],
)
def test_targets_and_covariates_that_do_not_fit_are_refused(tmp_path: Path, keys: str, part: str) -> None:
    file = tmp_path / "candlecast.toml"
    file.write_text(f"[profiles.sample.chronos2]\n{keys}\n")
    with pytest.raises(SettingsError, match=part):
        load_settings(file)
    assert Chronos2Settings().targets == ("close",)
