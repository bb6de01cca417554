"""Forecasts by vintage: every origin by the newest vintage before it, and one model of several checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from assets.evaluation.score_queries import origin_counts
from assets.forecasting.models.weights import find_weights
from assets.forecasting.plugin import ForecastInput
from assets.forecasting.registry import (
    checkpoints_in_use,
    forecasters_by_task,
    models_by_asset,
    models_in_use,
    plugin_problems,
)
from assets.forecasts.generate import generate_forecasts
from assets.forecasts.missing import lacks_newest_origin
from resources.errors import CandlecastError
from resources.hub_download import fetch_model
from resources.hub_models import named_models
from resources.layout import Home
from resources.settings import MarketSettings, ModelSettings, Settings, WindowSettings
from resources.vintages import at_vintage
from tests.forecasts.forecast_home import ForecastHome, publish_tiny_chronos2
from tests.resources.local_hub import LocalHub

ASSET = "chronos2_forecasts"
STORED = """
SELECT checkpoint, year(min(origin)), year(max(origin)), bool_or(in_sample) FROM forecasts
WHERE model = 'chronos2' GROUP BY checkpoint ORDER BY min(origin)
"""


@pytest.fixture
def vintages(home: ForecastHome) -> ForecastHome:
    """A home with vintages of 2011 and 2012, and settings that have one of 2013, too."""
    home = home.with_settings(windows={"vintage": "year"})
    for year in (2011, 2012):
        publish_tiny_chronos2(home.checkpoints.at(date(year, 1, 1)), f"{year - 1}-12-31", seed=year)
    return home


def test_every_origin_is_forecast_by_the_newest_vintage_before_it(vintages: ForecastHome) -> None:
    settings, store, warehouse = vintages.settings, vintages.checkpoints, vintages.warehouse
    tasks = vintages.tasks(date(2011, 12, 1), date(2012, 2, 1))
    found = forecasters_by_task(ASSET, settings, store, tasks)
    assert [(model.vintage, {str(task.origin)[:4] for task in own}) for model, own in found] == [
        (date(2011, 1, 1), {"2011"}),
        (date(2012, 1, 1), {"2012"}),
    ]
    for model, own in found:
        assert model.trained_until is not None and all(str(model.trained_until) < str(task.origin) for task in own)
        assert generate_forecasts(vintages.candlecast, model, own).created == len(own)
    older, newer = (model.checkpoint for model, _ in found)
    with warehouse.read() as connection:
        assert connection.execute(STORED).fetchall() == [(older, 2011, 2011, False), (newer, 2012, 2012, False)]
    used = checkpoints_in_use(settings, store)
    assert used["chronos2"] == [older, newer] and isinstance(used["drift"], str)
    counts = origin_counts(warehouse, used).set_index("model")
    assert counts.loc["chronos2", "out_of_sample"] == len({task.origin for task in tasks}), "both are one model"


def test_an_origin_lacks_the_forecasts_of_its_own_vintage_alone(vintages: ForecastHome) -> None:
    day = date(2012, 2, 1)
    assert lacks_newest_origin(vintages.candlecast, {ASSET}, day, day)
    tasks = vintages.tasks(day, day)
    for model, own in forecasters_by_task(ASSET, vintages.settings, vintages.checkpoints, tasks):
        assert generate_forecasts(vintages.candlecast, model, own).created == len(own)
    assert not lacks_newest_origin(vintages.candlecast, {ASSET}, day, day)
    assert lacks_newest_origin(vintages.candlecast, {ASSET}, date(2012, 2, 1), date(2012, 6, 1))
    assert not lacks_newest_origin(vintages.candlecast, {ASSET}, date(2026, 1, 5), date(2026, 1, 9))  # no bars


def test_a_missing_vintage_is_named_and_no_other_takes_its_place(vintages: ForecastHome) -> None:
    settings, store = vintages.settings, vintages.checkpoints
    assert "chronos2" in models_by_asset(settings, store) and "kronos" not in models_by_asset(settings, store)
    with pytest.raises(CandlecastError, match="2013-01-01"):
        forecasters_by_task(ASSET, settings, store, vintages.tasks(date(2013, 1, 2), date(2013, 1, 2)))
    with pytest.raises(CandlecastError, match=r"2010-12-31.*2011-01-01"):
        forecasters_by_task(ASSET, settings, store, vintages.tasks(date(2010, 12, 31), date(2010, 12, 31)))


def test_weights_that_may_have_seen_the_sessions_of_a_vintage_forecast_none(vintages: ForecastHome) -> None:
    publish_tiny_chronos2(vintages.checkpoints.at(date(2013, 1, 1)), "2013-01-02", seed=1)
    with pytest.raises(CandlecastError, match=r"2013-01-01.*2013-01-02"):
        forecasters_by_task(
            ASSET, vintages.settings, vintages.checkpoints, vintages.tasks(date(2013, 1, 3), date(2013, 1, 3))
        )


class LastClose:
    """A plug-in whose weights are published by year."""

    family, licence, cutoff, lookback = "test", "MIT", None, None

    def __init__(self, weights: str) -> None:
        self.recipe: dict[str, object] = {"weights": weights}

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> np.ndarray:
        spread = 1 + 0.01 * (np.asarray(levels) - 0.5)
        return np.stack([np.tile(one.closes[-1] * spread, (len(one.targets), 1)) for one in inputs])


def make(settings: Settings, weights: str) -> LastClose:
    return LastClose(weights)


def make_of_folder(settings: Settings, weights: str) -> LastClose:
    return LastClose(find_weights(settings, weights, None).identity)


def test_a_vintage_that_is_not_published_fails_and_the_others_are_forecast(home: ForecastHome, tmp_path: Path) -> None:
    model = ModelSettings(factory=f"{__name__}:make_of_folder", options={"weights": f"{tmp_path}/us_{{year}}"})
    settings = home.with_settings(windows={"vintage": "year"}).settings.model_copy(update={"models": {"yearly": model}})
    assert "us_2010" in plugin_problems(settings, home.checkpoints)["yearly"], "there is no vintage at all"
    for file in ("config.json", "model.safetensors"):
        (tmp_path / "us_2010").mkdir(exist_ok=True)
        (tmp_path / "us_2010" / file).write_bytes(b"{}")
    assert plugin_problems(settings, home.checkpoints) == {}
    tasks = home.tasks(date(2011, 12, 20), date(2012, 1, 20))
    published, missing = forecasters_by_task("yearly_forecasts", settings, home.checkpoints, tasks)
    assert generate_forecasts(home.candlecast, *published).created == len(published[1])
    failed = generate_forecasts(home.candlecast, *missing)
    assert len(failed.failures) == len(missing[1]) and all("us_2011" in one.reason for one in failed.failures)
    used = [one.checkpoint for one in models_in_use(settings, home.checkpoints) if one.model == "yearly"]
    assert used == [published[0].checkpoint]


def test_the_option_of_a_plugin_names_the_weights_of_each_vintage(home: ForecastHome) -> None:
    model = ModelSettings(factory=f"{__name__}:make", options={"weights": "org/Model_{year}_{quarter}_{month}"})
    windows = home.settings.windows.model_copy(update={"vintage": "quarter"})
    settings = home.settings.model_copy(update={"windows": windows, "models": {"yearly": model}})
    tasks = home.tasks(date(2011, 12, 20), date(2012, 1, 31))
    found = forecasters_by_task("yearly_forecasts", settings, home.checkpoints, tasks)
    assert [(one.recipe["options"]["weights"], one.trained_until) for one, _ in found] == [
        ("org/Model_2011_3_09", date(2011, 9, 30)),
        ("org/Model_2011_4_12", date(2011, 12, 31)),
    ]
    assert len({one.checkpoint for one, _ in found}) == 2


def test_weights_of_the_hub_by_year_count_as_published_before_their_vintage(hub: LocalHub, tmp_path: Path) -> None:
    model = ModelSettings(factory="chronos", options={"model": "org/Small_{year}_US"})
    windows = WindowSettings(vintage="year")
    settings = Settings(
        home=tmp_path, windows=windows, models={"small": model}, market=MarketSettings(end=date(2012, 6, 29))
    )
    assert {one.repository for one in named_models(settings)} == {"org/Small_2010_US", "org/Small_2011_US"}
    hub.commit("org/Small_2010_US", "2025-06-01", {"config.json": b"{}", "model.safetensors": b"weights"})
    fetch_model(Home(tmp_path), "org/Small_2010_US", None)
    own = at_vintage(settings, date(2011, 1, 1))
    assert find_weights(own, str(own.models["small"].options["model"]), None).cutoff == date(2010, 12, 31)
    with pytest.raises(CandlecastError, match="org/Small_2011_US"):
        find_weights(own, "org/Small_2011_US", None)
