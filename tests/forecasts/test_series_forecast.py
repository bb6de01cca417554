"""Forecasts of any series from a DataFrame, by the packaged Chronos-2."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.forecasting.plugin import NO_TRAINING, Forecaster, ForecastInput
from assets.forecasting.series.models import PACKAGED_FOLDER
from assets.forecasting.series_forecast import SeriesWarning, predict
from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import ComputeSettings, ModelSettings, Settings, WindowSettings
from tests.resources.local_hub import LocalHub

pytestmark = pytest.mark.filterwarnings("ignore::assets.forecasting.series_forecast.SeriesWarning")
HOURS = pd.date_range("2023-05-01", periods=90, freq="h")


def wave(seed: int, length: int = 90) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.2, length)
    return np.asarray(20 + 3 * np.sin(np.arange(length) * 2 * np.pi / 24) + noise)


def long(**series: np.ndarray) -> pd.DataFrame:
    parts = [pd.DataFrame({"id": name, "timestamp": HOURS[: len(v)], "value": v}) for name, v in series.items()]
    return pd.concat(parts, ignore_index=True)


def test_the_quantiles_are_those_of_the_pipeline_sorted() -> None:
    import torch
    from chronos import Chronos2Pipeline

    made = predict(long(a=wave(1)), horizon=6, levels=[0.05, 0.33, 0.5, 0.95])
    pipeline = Chronos2Pipeline.from_pretrained(PACKAGED_FOLDER)
    known = torch.from_numpy(wave(1).astype(np.float32))
    (raw,) = pipeline.predict([known], prediction_length=6)
    ordered = np.sort(raw[0].numpy().T, axis=1)
    expected = [np.interp([0.05, 0.33, 0.5, 0.95], pipeline.quantiles, row) for row in ordered]
    np.testing.assert_allclose(made[["0.05", "0.33", "0.5", "0.95"]].to_numpy(), expected, rtol=2e-5)
    assert made["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert made["timestamp"].tolist() == list(pd.date_range(HOURS[-1], periods=7, freq="h")[1:])


def test_a_series_is_forecast_alike_alone_and_beside_others() -> None:
    alone = predict(long(b=wave(2)), horizon=4)
    beside = predict(long(a=wave(1, 30), b=wave(2), c=wave(3, 71)), horizon=4)
    pd.testing.assert_frame_equal(beside[beside["id"] == "b"].reset_index(drop=True), alone, check_exact=True)


@pytest.mark.parametrize("horizon", [6, 60])
def test_no_number_order_or_length_of_other_series_changes_a_bit(horizon: int) -> None:
    """Covariates of both kinds, categories that others lack, and a horizon beyond one pass of the model."""
    random = np.random.default_rng(31)
    parts, future = [], []
    for number in range(70):
        length = 90 - number % 3 * 20
        sky = random.choice([["clear", "cloud"], ["fog", "cloud", "rain"]][number % 2], length + horizon)
        rows = pd.DataFrame(
            {"id": f"s{number}", "timestamp": pd.date_range("2023-05-01", periods=length + horizon, freq="h")}
        )
        rows = rows.assign(load=wave(number, length + horizon), heat=random.normal(size=len(rows)), sky=sky)
        parts.append(rows[:length])
        future.append(rows[length:].drop(columns=["load", "heat"]))
    frame, ahead = pd.concat(parts, ignore_index=True), pd.concat(future, ignore_index=True)

    def forecast(ids: Sequence[str]) -> pd.DataFrame:
        own = pd.concat([frame[frame["id"] == one] for one in ids])
        return predict(own, "load", past=["heat"], future=ahead, horizon=horizon).set_index(["id", "step"]).sort_index()

    names = [f"s{number}" for number in range(70)]
    every, turned = forecast(names), forecast(names[::-1])
    pd.testing.assert_frame_equal(every, turned, check_exact=True)
    for one in ("s3", "s69"):
        pd.testing.assert_frame_equal(forecast([one]), every.loc[[one]], check_exact=True)


def test_small_changes_on_a_high_level_are_not_lost() -> None:
    low, high = (predict(long(a=offset + wave(4)), horizon=3)[["0.1", "0.9"]] for offset in (0.0, 3e9))
    np.testing.assert_allclose(high - 3e9, low, atol=2e-5)


def test_bad_series_are_named_and_the_others_are_forecast() -> None:
    infinite, nothing = wave(5), np.full(40, np.nan)
    infinite[7] = -np.inf
    frame = long(good=wave(6), infinite=infinite, nothing=nothing, short=wave(7, 2))
    frame = pd.concat([frame, pd.DataFrame({"id": "twice", "timestamp": HOURS[[0, 1, 1, 2]], "value": 1.5})])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SeriesWarning)
        made = predict(frame, horizon=2)
    assert set(made["id"]) == {"good"}
    rejected = made.attrs["rejected"]
    assert set(rejected) == {"infinite", "nothing", "short", "twice"}
    assert f"row {90 + 8}" in rejected["infinite"] and "value" in rejected["infinite"]
    assert str(HOURS[1]) in rejected["twice"]
    assert {name for name in rejected if any(name in str(one.message) for one in caught)} == set(rejected)
    with pytest.raises(CandlecastError, match="infinite"):
        predict(frame[frame["id"] == "infinite"], horizon=2)


def test_a_level_that_the_model_cannot_give_is_refused() -> None:
    with pytest.raises(CandlecastError, match=r"0\.001.*0\.01"):
        predict(long(a=wave(1)), horizon=2, levels=[0.001, 0.5])


def weather(length: int) -> dict[str, np.ndarray]:
    return {"heat": wave(11, length), "sky": np.random.default_rng(12).choice(["clear", "cloud"], length)}


def with_weather(length: int = 90) -> pd.DataFrame:
    return pd.DataFrame({"timestamp": HOURS[:length], "load": wave(10, length), **weather(length)})


def ahead(steps: int, **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"timestamp": pd.date_range(HOURS[-1], periods=steps + 1, freq="h")[1:], **columns})


def test_covariates_reach_the_model_and_the_future_only_of_those_that_are_known() -> None:
    frame = with_weather()
    alone = predict(frame, "load", horizon=4)["0.5"]
    past = predict(frame, "load", past=["heat"], horizon=4)["0.5"]
    hot, cold = (predict(frame, "load", future=ahead(4, heat=heat), horizon=4)["0.5"] for heat in (40.0, 2))
    assert len({tuple(one) for one in (alone, past, hot, cold)}) == 4
    # Of a covariate of the past alone, rows after the last load are not read.
    longer = pd.concat([frame, ahead(4, heat=[9.0, 1.0, 30.0, -3.0])], ignore_index=True)
    pd.testing.assert_series_equal(predict(longer, "load", past=["heat"], horizon=4)["0.5"], past, check_exact=True)
    own_rows = pd.concat([frame, ahead(4, heat=40.0)], ignore_index=True)
    pd.testing.assert_series_equal(predict(own_rows, "load", known=["heat"], horizon=4)["0.5"], hot, check_exact=True)


def test_categories_are_read_in_the_past_and_in_the_future() -> None:
    clear, cloud = (predict(with_weather(), "load", future=ahead(3, sky=sky), horizon=3) for sky in ("clear", "cloud"))
    assert (clear["0.5"] != cloud["0.5"]).any()


@pytest.mark.parametrize(
    ("future", "named"),
    [
        (ahead(2, heat=1.0), ["heat", "step 3"]),
        (ahead(4, heat=[1.0, None, 1.0, 1.0]), ["heat", "step 2"]),
        (ahead(4, heat=[1.0, np.inf, 1.0, 1.0]), ["heat", "row 2", "inf"]),
    ],
)
def test_a_future_that_ends_early_is_named_by_column_and_step(future: pd.DataFrame, named: list[str]) -> None:
    with pytest.raises(CandlecastError) as refused:
        predict(with_weather(), "load", future=future, horizon=4)
    assert all(one in str(refused.value) for one in named)


def test_a_series_that_the_future_lacks_is_named_and_the_others_are_forecast() -> None:
    frame = pd.concat([with_weather().assign(id=name) for name in ("north", "south")], ignore_index=True)
    made = predict(frame, "load", future=ahead(2, heat=3.0).assign(id="south"), horizon=2)
    assert set(made["id"]) == {"south"}
    assert "heat" in made.attrs["rejected"]["north"]


def test_columns_that_are_not_there_are_named_with_the_nearest() -> None:
    for options in ({"target": "laod"}, {"target": "load", "past": ["haet"]}):
        with pytest.raises(CandlecastError, match=r"load\?|heat\?"):
            predict(with_weather(), horizon=1, **options)
    with pytest.raises(CandlecastError, match="ozone"):
        predict(with_weather(), "load", future=ahead(1, ozone=2.0), horizon=1)


def test_numbers_in_another_format_do_not_become_categories() -> None:
    frame = with_weather().assign(heat=[f"1,{n:03d}.5" for n in range(90)])
    with pytest.raises(CandlecastError, match=r"heat, row 1.*--categorical"):
        predict(frame, "load", past=["heat"], horizon=1)
    assert len(predict(frame, "load", past=["heat"], categorical=["heat"], horizon=1)) == 1


def test_a_wide_frame_has_a_series_per_column_and_gaps_stay_gaps() -> None:
    days = pd.bdate_range("2022-01-03", periods=80)
    frame = pd.DataFrame({"date": days, "north": wave(20, 80), "south": wave(21, 80)})
    whole = predict(frame, horizon=3)
    assert whole["id"].tolist() == ["north"] * 3 + ["south"] * 3
    assert whole["timestamp"].tolist()[:3] == list(pd.bdate_range(days[-1], periods=4)[1:])
    gaps = frame.copy()
    gaps.loc[70, "north"] = np.nan
    absent = predict(frame.drop(index=70), horizon=3)
    given = predict(gaps, horizon=3)
    assert absent.attrs["frequency"] == "B"
    assert any("north" in note and "gap" in note for note in absent.attrs["notes"])
    pd.testing.assert_frame_equal(absent[absent["id"] == "north"], given[given["id"] == "north"], check_exact=True)
    assert (given[given["id"] == "north"]["0.5"] != whole[whole["id"] == "north"]["0.5"]).all()


def test_several_targets_are_forecast_together() -> None:
    together = predict(with_weather(), ["load", "heat"], horizon=2)
    assert together["target"].tolist() == ["load", "load", "heat", "heat"]
    assert (together["0.5"].iloc[:2].to_numpy() != predict(with_weather(), "load", horizon=2)["0.5"].to_numpy()).all()


def test_steps_beyond_the_pass_of_the_weights_are_forecast_with_a_note() -> None:
    made = predict(long(a=wave(1)), horizon=60)
    assert np.isfinite(made["0.9"]).all()
    assert any("48 steps" in note for note in made.attrs["notes"])


def test_ends_without_values_are_noted_and_the_forecast_follows_the_last_value() -> None:
    values = wave(1)
    values[:3] = values[-2:] = np.nan
    made = predict(long(a=values), horizon=1)
    assert made["timestamp"].tolist() == [HOURS[-2]]
    assert sum(word in note for note in made.attrs["notes"] for word in ("first 3 rows", "last 2 rows")) == 2


def test_a_constant_series_stays_where_it_is() -> None:
    made = predict(long(a=np.full(50, 0.7)), horizon=3)
    np.testing.assert_allclose(made[["0.1", "0.5", "0.9"]], 0.7, atol=1e-3)


def test_a_forecaster_of_bars_forecasts_a_positive_series() -> None:
    settings = Settings(models={"walk": ModelSettings(factory="tests.forecasts.test_series_forecast:walk")})
    gaps = wave(3)
    gaps[40:50] = np.nan
    made = predict(long(up=wave(1), cold=wave(2) - 30, gaps=gaps), horizon=2, model="walk", settings=settings)
    assert set(made["id"]) == {"up", "gaps"}
    made = made[made["id"] == "up"]
    np.testing.assert_allclose(made["0.5"], wave(1)[-1])
    assert "value" in made.attrs["rejected"]["cold"]
    assert "BSD-2-Clause" in made.attrs["model"]


def test_the_checkpoint_in_use_of_a_home_is_read_and_named(tmp_path: Path) -> None:
    store = CheckpointStore(Home(tmp_path))

    def write(folder: Path) -> None:
        shutil.copytree(PACKAGED_FOLDER, folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "dropout_rate": 0.3}))

    weights = store.publish("chronos2_model", {"base": "another"}, write, {"licence": "MIT"})
    settings = Settings(home=tmp_path)
    with pytest.raises(CandlecastError, match="--model packaged"):
        predict(long(a=wave(1)), horizon=1, model="chronos2", settings=settings)
    store.set_current("chronos2_model", weights.digest)
    read = predict(long(a=wave(1)), horizon=1, model="chronos2", settings=settings)
    assert weights.digest[:16] in read.attrs["model"]


def test_the_checkpoint_of_the_newest_vintage_is_read_under_the_licence_that_the_settings_state(
    tmp_path: Path,
) -> None:
    store = CheckpointStore(Home(tmp_path))

    def write(folder: Path) -> None:
        shutil.copytree(PACKAGED_FOLDER, folder, dirs_exist_ok=True)

    for year in (2024, 2025):
        weights = store.publish("chronos2_model", {"year": year}, write, {"licence": "unknown: see the hub"})
        store.at(date(year, 1, 1)).set_current("chronos2_model", weights.digest)
    settings = Settings(
        home=tmp_path, windows=WindowSettings(vintage="year"), compute=ComputeSettings(licences="commercial")
    )
    with pytest.raises(CandlecastError, match=r"^chronos2\.licence"):
        predict(long(a=wave(1)), horizon=1, model="chronos2", settings=settings)
    stated = settings.model_copy(update={"chronos2": settings.chronos2.model_copy(update={"licence": "CC-BY-4.0"})})
    read = predict(long(a=wave(1)), horizon=1, model="chronos2", settings=stated)
    assert weights.digest[:16] in read.attrs["model"] and "CC-BY-4.0" in read.attrs["model"]


def test_a_licence_that_is_not_allowed_is_refused(tmp_path: Path) -> None:
    shutil.copytree(PACKAGED_FOLDER, tmp_path / "weights")
    (tmp_path / "weights" / "card.json").write_text('{"licence": "CC-BY-NC-4.0"}')
    commercial = Settings(root=tmp_path, compute=ComputeSettings(licences="commercial"))
    model = str(tmp_path / "weights")
    assert "CC-BY-NC-4.0" in predict(long(a=wave(1)), horizon=1, model=model).attrs["model"]
    with pytest.raises(CandlecastError, match=r"CC-BY-NC-4\.0.*card\.json"):
        predict(long(a=wave(1)), horizon=1, model="weights", settings=commercial)
    assert len(predict(long(a=wave(1)), horizon=1, model="packaged", settings=commercial)) == 1
    (tmp_path / "weights" / "card.json").write_text('{"licence": ')
    with pytest.raises(CandlecastError, match=r"card\.json is damaged"):
        predict(long(a=wave(1)), horizon=1, model=model)


class _Walk:
    family, licence = "random walk", "BSD-2-Clause"
    cutoff: date | None = NO_TRAINING
    lookback: int | None = 30

    def __init__(self) -> None:
        self.recipe: dict[str, object] = {"version": 1}

    def predict(self, inputs: Sequence[ForecastInput], levels: Sequence[float]) -> np.ndarray:
        assert all(np.isfinite(one.closes).all() for one in inputs)
        spread = np.array(levels) - 0.5
        return np.stack([one.closes[-1] + np.arange(len(one.targets))[:, None] * spread for one in inputs])


def walk(settings: Settings) -> Forecaster:
    return _Walk()


@pytest.mark.parametrize(
    ("history", "future", "fact"),
    [
        (np.full(90, np.nan), 1.0, "covariate heat has no value"),
        (wave(3), "warm", "future values of heat are text"),
        (np.array(["warm", "cold"] * 45), 1.0, "future values of heat are numbers"),
    ],
)
def test_a_covariate_that_is_missing_or_of_another_kind_is_named(
    history: np.ndarray, future: object, fact: str
) -> None:
    frame = long(a=wave(1)).assign(heat=history)
    later = pd.DataFrame({"timestamp": pd.date_range(HOURS[-1], periods=4, freq="h")[1:], "heat": future})
    with pytest.raises(CandlecastError, match=f"a: {fact}"):
        predict(frame, "value", future=later, horizon=3)


def test_a_covariate_that_ends_early_is_noted() -> None:
    frame = long(a=wave(1)).assign(heat=np.r_[wave(3)[:-5], np.full(5, np.nan)])
    notes = predict(frame, "value", past=["heat"], horizon=3).attrs["notes"]
    assert any("last 5 values of covariate heat" in note for note in notes)


def test_a_hub_id_is_read_at_a_commit_that_the_result_names(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without settings there is no lock: a stated commit is kept, and otherwise the one that was read is recorded."""
    name, frame = "somebody/small-chronos", long(a=wave(7))
    config, weights = ((PACKAGED_FOLDER / one).read_bytes() for one in ("config.json", "model.safetensors"))
    first = hub.commit(name, "2025-03-03", {"config.json": config, "model.safetensors": weights})
    made = predict(frame, horizon=2, model=name)
    assert made.attrs["revision"] == first and any(f"{name}@{first}" in note for note in made.attrs["notes"])
    hub.commit(name, "2025-04-04", {"config.json": b"{}", "model.safetensors": b"broken"})
    asked = len(hub.requests)
    for stated in ({"revision": first}, {"model": f"{name}@{first}"}):
        kept = predict(frame, horizon=2, **{"model": name, **stated})  # type: ignore[arg-type]
        pd.testing.assert_frame_equal(kept, made, check_exact=True)
        assert kept.attrs["revision"] == first and not any(first in note for note in kept.attrs["notes"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert predict(frame, horizon=2, model=name).attrs["revision"] == first and len(hub.requests) == asked
    with pytest.raises(CandlecastError, match=r"somebody/absent.*HF_HUB_OFFLINE"):
        predict(frame, horizon=2, model="somebody/absent")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(CandlecastError, match="no Chronos-2 weights"):
        predict(frame, horizon=2, model=name)
    for model, revision in (("packaged", first), (f"{name}@{first}", "v2")):
        with pytest.raises(CandlecastError, match=f"revision = '{revision}'"):
            predict(frame, horizon=2, model=model, revision=revision)
