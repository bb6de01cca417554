"""Plug-ins as models: how they are found, what they read, what identifies their forecasts, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from assets.forecasting.forecaster import ForecastTask, Prediction
from assets.forecasting.plugin import NO_TRAINING, ForecastInput, Paths, Quantiles
from assets.forecasting.plugin_models import plugin_model, plugin_predict
from assets.forecasting.registry import forecasters_in, plugin_problems
from assets.forecasts.batches import target_timestamps
from resources.errors import CandlecastError
from resources.settings import ModelSettings, Settings
from tests.forecasts.forecast_home import ForecastHome

ORIGIN = date(2012, 10, 1)
Output = Quantiles | Paths | np.ndarray


def spread(inputs: Sequence[ForecastInput], levels: Sequence[float]) -> np.ndarray:
    """The last close, 2 % apart per level: (inputs, horizon, levels)."""
    closes = np.array([one.closes[-1] for one in inputs])[:, None, None]
    return closes * (1 + 0.02 * np.asarray(levels)) * np.ones((1, len(inputs[0].targets), 1))


@dataclass
class Toy:
    """A forecaster that answers with a function, and keeps what it read."""

    answer: Callable[[Sequence[ForecastInput], Sequence[float]], Output] = spread
    family: str = "toy"
    licence: str = "MIT"
    cutoff: date | None = NO_TRAINING
    recipe: dict[str, object] = field(default_factory=dict)
    lookback: int | None = 30
    read: list[ForecastInput] = field(default_factory=list)

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Output:
        self.read += inputs
        return self.answer(inputs, levels)


def make_toy(settings: Settings, cutoff: date | None = NO_TRAINING, version: object = 1) -> Toy:
    return Toy(cutoff=cutoff, recipe={"version": version})


def make_unlicensed(settings: Settings) -> Toy:
    return Toy(licence="unknown")


def make_ranged(settings: Settings, low: object, high: object) -> Toy:
    toy = Toy()
    toy.level_range = (low, high)  # type: ignore[attr-defined]
    return toy


def make_number(settings: Settings) -> int:
    return 3


def with_models(home: ForecastHome, **models: dict[str, object]) -> Settings:
    factory = f"{__name__}:make_toy"
    named = {name: ModelSettings.model_validate({"factory": factory, **values}) for name, values in models.items()}
    return home.settings.model_copy(update={"models": named})


def predicted(home: ForecastHome, toy: Toy, tasks: Sequence[ForecastTask] = ()) -> Prediction:
    tasks = tasks or home.tasks(ORIGIN, ORIGIN)
    return plugin_predict(home.settings, "toy", toy)(tasks, target_timestamps(tasks, home.candlecast.calendar, 10))


def test_an_input_ends_at_its_origin_and_has_the_bars_of_the_lookback(model_home: ForecastHome) -> None:
    toy = Toy()
    tasks = model_home.tasks(date(2012, 7, 2), ORIGIN)
    predicted(model_home, toy, tasks)
    for task, one in zip(tasks, toy.read, strict=True):
        assert (one.symbol, one.origin) == (task.symbol, task.origin)
        assert one.bars.tobytes() == task.history.bars_as_of(task.index, task.index - 29).tobytes()
        assert len(one.stamps) == 30 and one.targets[0] > one.origin and 0 <= one.seed < 2**31
    assert len({one.seed for one in toy.read}) == len(tasks)


def test_a_plugin_that_writes_into_its_input_changes_no_history(model_home: ForecastHome) -> None:
    def careless(inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Output:
        for one in inputs:
            one.bars[:], one.stamps[:] = 1.0, np.datetime64("1970-01-01")
        return spread(inputs, levels)

    tasks = model_home.tasks(ORIGIN, ORIGIN)
    before = [task.history.quoted.tobytes() + task.history.stamps.tobytes() for task in tasks]
    predicted(model_home, Toy(careless), tasks)
    assert before == [task.history.quoted.tobytes() + task.history.stamps.tobytes() for task in tasks]


def test_paths_become_quantiles_and_those_of_bars_are_kept(model_home: ForecastHome) -> None:
    def closes(inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Output:
        return Paths(np.stack([one.closes[-1] + np.arange(40)[:, None] * np.ones((1, 10)) for one in inputs]))

    def bars(inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Output:
        return Paths(np.stack([one.closes[-1] + np.arange(40)[:, None, None] * np.ones((1, 10, 6)) for one in inputs]))

    of_closes, of_bars = predicted(model_home, Toy(closes)), predicted(model_home, Toy(bars))
    assert (of_closes.fields, of_bars.fields[3], of_closes.paths) == (("close",), "close", None)
    assert of_closes.quantiles[:, :, 0].tobytes() == of_bars.quantiles[:, :, 3].tobytes()
    assert of_bars.paths is not None and of_bars.paths.shape[1:] == (40, 10, 6)


def test_an_input_that_raises_affects_no_other(model_home: ForecastHome) -> None:
    def picky(inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Output:
        if any(one.symbol == "IBM" for one in inputs):
            raise ValueError("too quiet")
        return spread(inputs, levels)

    tasks = model_home.tasks(date(2012, 7, 2), ORIGIN)
    found, whole = predicted(model_home, Toy(picky), tasks), predicted(model_home, Toy(), tasks)
    failed = [place for place, task in enumerate(tasks) if task.symbol == "IBM"]
    kept = [place for place in range(len(tasks)) if place not in failed]
    assert sorted(found.failures) == failed and len(kept) > len(failed) > 1
    assert all("too quiet" in reason and "test_plugin_models.py" in reason for reason in found.failures.values())
    assert found.quantiles[kept].tobytes() == whole.quantiles[kept].tobytes()


def test_a_plugin_that_fails_on_all_early_origins_forecasts_the_later_ones(model_home: ForecastHome) -> None:
    until = np.datetime64("2012-01-01")

    def late(inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Output:
        if any(one.origin < until for one in inputs):
            raise RuntimeError("too short")
        return spread(inputs, levels)

    tasks = model_home.tasks(date(2011, 1, 3), ORIGIN)
    failed = predicted(model_home, Toy(late), tasks).failures
    assert sorted(failed) == [row for row, task in enumerate(tasks) if task.origin < until]
    assert len(tasks) > len(failed) > 150


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (lambda inputs, levels: spread(inputs, levels)[:, :4], "(1, 4, 19), expected (1, 10, 19)"),
        (lambda inputs, levels: Paths(np.ones((len(inputs), 5))), "(1, 5)"),
        (lambda inputs, levels: Paths(np.ones((1, 5, 10)), spread(inputs, levels)[:, :4]), "(1, 4, 1, 19)"),
        (lambda inputs, levels: Quantiles(spread(inputs, levels)[:, :, None], ("median",)), "median"),
        (lambda inputs, levels: "up", "str"),
        (lambda inputs, levels: spread(inputs, levels)[..., ::-1], "between the levels 0.05 and 0.1"),
    ],
)
def test_an_output_that_does_not_fit_is_named(
    model_home: ForecastHome, answer: Callable[..., Output], named: str
) -> None:
    reasons = predicted(model_home, Toy(answer)).failures.values()
    assert len(reasons) == len(model_home.tasks(ORIGIN, ORIGIN)) and all(named in one for one in reasons)


def test_few_crossing_quantiles_are_sorted_and_counted(model_home: ForecastHome) -> None:
    def crossing(inputs: Sequence[ForecastInput], levels: Sequence[float]) -> Output:
        values = spread(inputs, levels)
        values[:, 2, [4, 5]] = values[:, 2, [5, 4]]
        return values

    found, sorted_already = predicted(model_home, Toy(crossing)), predicted(model_home, Toy())
    assert found.quantiles.tobytes() == sorted_already.quantiles.tobytes() and not found.failures
    assert np.allclose(found.corrected, 1 / 180) and not sorted_already.corrected.any()


def test_the_checkpoint_changes_with_factory_options_and_recipe(model_home: ForecastHome) -> None:
    settings = with_models(
        model_home,
        plain={},
        other={"options": {"version": 2}},
        dated={"options": {"version": date(2020, 1, 1)}},
    )
    made = [plugin_model(settings, name, model_home.checkpoints) for name in settings.models]
    assert len({one.checkpoint for one in made}) == 3
    assert plugin_model(settings, "plain", model_home.checkpoints).checkpoint == made[0].checkpoint
    assert (made[0].licence, made[0].family, made[0].trained_until) == ("MIT", "toy", None)
    assert made[2].recipe["options"] == {"version": "2020-01-01"}
    reseeded = settings.model_copy(update={"seed": settings.seed + 1})
    assert plugin_model(reseeded, "plain", model_home.checkpoints).checkpoint != made[0].checkpoint


def make_versioned(settings: Settings, file: str) -> Toy:
    version = Path(file).read_text()
    return Toy(lambda inputs, levels: spread(inputs, levels) * float(version), recipe={"version": version})


def test_a_forecast_is_by_the_weights_that_its_checkpoint_names(model_home: ForecastHome, tmp_path: Path) -> None:
    file = tmp_path / "version"
    settings = with_models(model_home, toy={"factory": f"{__name__}:make_versioned", "options": {"file": str(file)}})
    file.write_text("1")
    old = plugin_model(settings, "toy", model_home.checkpoints)
    file.write_text("2")
    new = plugin_model(settings, "toy", model_home.checkpoints)
    assert (old.recipe["forecaster"], new.recipe["forecaster"]) == ({"version": "1"}, {"version": "2"})
    tasks = model_home.tasks(ORIGIN, ORIGIN)
    targets = target_timestamps(tasks, model_home.candlecast.calendar, 10)
    before, after = (one.load()(tasks, targets).quantiles for one in (old, new))
    assert np.array_equal(2 * before, after)


@pytest.mark.parametrize(
    ("stated", "until"),
    [
        ({"options": {"cutoff": date(2012, 1, 5)}}, date(2012, 1, 5)),
        ({"options": {"cutoff": date(2012, 1, 5)}, "cutoff": date(2011, 1, 5)}, date(2012, 1, 5)),
        ({"options": {"cutoff": None}, "cutoff": date(2011, 1, 5)}, date(2011, 1, 5)),
        ({"options": {"cutoff": None}, "published": date(2013, 1, 5)}, date(2013, 1, 5)),
        ({"options": {"cutoff": None}}, date.max),
    ],
)
def test_the_latest_stated_cutoff_counts_and_an_unknown_one_makes_all_in_sample(
    model_home: ForecastHome, stated: dict[str, object], until: date
) -> None:
    assert plugin_model(with_models(model_home, toy=stated), "toy", model_home.checkpoints).trained_until == until


def test_under_commercial_licences_an_unknown_licence_is_refused_until_it_is_stated(model_home: ForecastHome) -> None:
    unknown: dict[str, object] = {"factory": f"{__name__}:make_unlicensed"}
    compute = model_home.settings.compute.model_copy(update={"licences": "commercial"})

    def problems(**stated: object) -> dict[str, str]:
        settings = with_models(model_home, toy={**unknown, **stated}).model_copy(update={"compute": compute})
        return plugin_problems(settings, model_home.checkpoints)

    assert "models.toy.licence" in problems()["toy"]
    assert problems(licence="Apache-2.0") == problems(enabled=False) == {}


def test_weights_whose_card_states_no_licence_are_refused_until_it_is_stated(model_home: ForecastHome) -> None:
    def settings(licence: str | None) -> Settings:
        return model_home.with_settings(compute={"licences": "commercial"}, chronos2={"licence": licence}).settings

    with pytest.raises(CandlecastError, match=r"chronos2\.licence"):
        forecasters_in("chronos2_forecasts", settings(None), model_home.checkpoints)
    (model,) = forecasters_in("chronos2_forecasts", settings("Apache-2.0"), model_home.checkpoints)
    assert model.licence == "Apache-2.0"


@pytest.mark.parametrize(
    ("stated", "named"),
    [
        ({"factory": "no_such_package.models:make"}, ["no_such_package", "models.toy.enabled"]),
        ({"factory": f"{__name__}:make_nothing"}, ["make_nothing", "models.toy.factory"]),
        ({"factory": "no-such-entry-point"}, ["no-such-entry-point", "models.toy.factory"]),
        ({"options": {"speed": 3}}, ["models.toy.options", "speed", "cutoff, version"]),
        ({"options": {"version": float("nan")}}, ["models.toy", "nan"]),
        ({"factory": "datetime:date.fromisoformat"}, ["models.toy", "datetime:date.fromisoformat"]),
        ({"factory": f"{__name__}:make_number"}, ["models.toy", "family, licence, cutoff, recipe, lookback, predict"]),
    ],
)
def test_a_factory_that_cannot_be_used_is_named_with_the_key_to_correct(
    model_home: ForecastHome, stated: dict[str, object], named: list[str]
) -> None:
    with pytest.raises(CandlecastError) as refused:
        plugin_model(with_models(model_home, toy=stated), "toy", model_home.checkpoints)
    assert all(part in str(refused.value) for part in named)


def test_levels_that_a_forecaster_does_not_give_are_refused_before_a_run(model_home: ForecastHome) -> None:
    factory = f"{__name__}:make_ranged"
    cases = {"narrow": (0.2, 0.9), "wide": (0.05, 0.95), "turned": (0.9, 0.1), "worded": ("low", "high")}
    options = {name: {"low": low, "high": high} for name, (low, high) in cases.items()}
    named: dict[str, dict[str, object]] = {name: {"factory": factory, "options": one} for name, one in options.items()}
    settings = with_models(model_home, **named)
    problems = plugin_problems(settings, model_home.checkpoints)
    assert set(problems) == {"narrow", "turned", "worded"}
    assert "0.05 is below 0.2, the lowest level of narrow; set forecasts.levels = [0.2, " in problems["narrow"]
    assert all("level_range" in problems[name] for name in ("turned", "worded"))
