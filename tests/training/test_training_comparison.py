"""Two checkpoints forecast the same origins; the result is deterministic and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import torch

from assets.forecasting.chronos2.compact import new_chronos2
from assets.training.data.dataset import WindowArrays, write_arrays
from assets.training.data.histories import training_market
from assets.training.data.windows import build_windows
from assets.training.model_selection import comparison
from assets.training.model_selection.candidates import CandidateStore, candidate_scores
from assets.training.model_selection.comparison import (
    SECTIONS,
    ComparisonOutcome,
    ComparisonRequest,
    compare_checkpoints,
    comparison_request,
    comparisons_folder,
    run_comparison,
)
from assets.training.model_selection.scoring import SkillComparison, mean_rank_ic
from assets.training.worker.job import TrainingJob
from assets.training.worker.worker import main
from resources.checkpoints import CARD, Checkpoint, CheckpointStore, trained_until
from resources.integrity import publish_kept_json
from resources.layout import Home
from resources.settings import PromotionSettings, Settings
from resources.warehouse import Warehouse
from tests.training.test_training_assets import build_kronos_chain
from tests.training.training_setup import CHRONOS, PREDICTOR, WINDOWS, all_histories, filled_home, small_settings


def predictor_comparison(
    home: Home, challenger: Checkpoint, champion: Checkpoint, arrays: Path, settings: Settings
) -> ComparisonRequest:
    return ComparisonRequest(
        home=home.root,
        kind="kronos_predictor",
        challenger=challenger.digest,
        champion=champion.digest,
        arrays=arrays,
        settings=settings.model_dump(mode="json", include=SECTIONS),
    )


def test_a_comparison_is_deterministic_and_a_checkpoint_is_equal_to_itself(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    settings = small_settings(home, promotion=PromotionSettings(origins=6, paths=30))
    windows, _, first = build_kronos_chain(home, warehouse, settings)
    other = small_settings(home, predictor=PREDICTOR.model_copy(update={"epochs": 1, "learning_rate": 1e-6}))
    _, _, second = build_kronos_chain(home, warehouse, other)
    request = predictor_comparison(home, second, first, windows.folder, settings)
    found = compare_checkpoints(request)
    assert found == compare_checkpoints(request) and (found.origins, found.in_sample, found.unknown) == (6, 0, ())
    assert found.skill is not None and found.skill.origins == 6 and found.skill.ours != found.skill.theirs
    assert (found.text, found.to_dict()) == (found.skill.text, found.skill.to_dict())
    equal = compare_checkpoints(request.model_copy(update={"challenger": first.digest}))
    assert equal.skill is not None and equal.skill.skill == equal.skill.low == equal.skill.high == 0.0
    store = CheckpointStore(home)
    kept = comparisons_folder(home, "kronos_predictor") / f"{request.name}.json"
    kept.parent.mkdir(parents=True)
    file = tmp_path / "request.json"
    file.write_text(request.model_dump_json())
    assert comparison.main([str(file), str(kept)]) == 0
    assert run_comparison(second, first, store, settings, windows.folder) == found
    written = ComparisonOutcome(
        SkillComparison(1, 2, 0.5, 0.4, 0.6, 9), 12, 3, "2003-04-01", "the champion", ("the challenger",)
    )
    publish_kept_json(kept, asdict(written))
    assert run_comparison(second, first, store, settings, windows.folder) == written
    kept.unlink()
    earlier = {
        **asdict(written),
        "found": asdict(written)["skill"],
        "seen_until": "2003-04-01",
        "learner": "the champion",
    }
    for key in ("skill", "trained_until", "trained_side"):
        del earlier[key]
    contests = kept.parents[1] / "contests"
    contests.mkdir()
    (contests / kept.name).write_text(json.dumps(earlier))
    assert run_comparison(second, first, store, settings, windows.folder) == written
    scores = candidate_scores(CandidateStore(home, first), settings, WindowArrays(windows.folder), 6, 30)
    assert scores["origin"].nunique() == 6 and scores["crps"].gt(0).all()
    assert -1 <= mean_rank_ic(scores) <= 1 or mean_rank_ic(scores) != mean_rank_ic(scores)


def test_a_kept_comparison_is_that_of_its_checkpoints_windows_and_settings(tmp_path: Path) -> None:
    """Otherwise the outcome against an earlier champion would decide about this one."""
    home = Home(tmp_path)
    settings = small_settings(home, promotion=PromotionSettings(origins=6, paths=30))
    request = ComparisonRequest(
        home=tmp_path,
        kind="kronos_predictor",
        challenger="a" * 64,
        champion="b" * 64,
        arrays=tmp_path / "windows" / "c",
        settings=settings,
    )
    changes: list[Mapping[str, object]] = [
        {"kind": "chronos2_model"},
        {"challenger": "b" * 64, "champion": "a" * 64},
        {"champion": "d" * 64},
        {"arrays": tmp_path / "windows" / "d"},
        *({"settings": settings.model_copy(update={key: _other(settings, key)})} for key in SECTIONS),
    ]
    names = {request.model_copy(update=change).name for change in changes}
    assert len(names | {request.name}) == len(changes) + 1
    assert request.model_copy(update={"home": tmp_path / "moved"}).name == request.name


def rich_settings(home: Home, folder: Path) -> Settings:
    """Settings of Chronos-2 with a market return, events in a warehouse outside the home, and a group."""
    (folder / "groups.csv").write_text("symbol,group\nAAPL,one\nIBM,one\n")
    rich = {
        "past_covariates": ("market_return",),
        "future_covariates": ("rain",),
        "events": "warehouse:weather",
        "groups": "groups.csv",
    }
    _, warehouse = filled_home(folder / "elsewhere")
    _write_events(warehouse, rain=1)
    return small_settings(
        home,
        root=folder,
        warehouse=str(warehouse.path),
        chronos2=CHRONOS.model_copy(update=rich),
        promotion=PromotionSettings(origins=6, paths=30),
    )


def test_a_kept_comparison_of_chronos_2_is_that_of_its_events_and_groups(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    settings = rich_settings(home, tmp_path)
    sides = [Checkpoint("chronos2_model", digest, home.root, {}) for digest in "ab"]

    def name() -> str:
        return comparison_request(sides[0], sides[1], CheckpointStore(home), settings, home.windows / "c").name

    before = name()
    assert name() == before
    _write_events(Warehouse.of(settings), rain=2)
    changed = name()
    (tmp_path / "groups.csv").write_text("symbol,group\nAAPL,one\nIBM,two\n")
    assert len({before, changed, name()}) == 3


@pytest.mark.slow
def test_a_comparison_of_chronos_2_reads_the_arrays_and_no_warehouse(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    settings = rich_settings(home, tmp_path)
    warehouse = Warehouse.of(settings)
    found = build_windows(all_histories(warehouse), WINDOWS, market=training_market(settings, warehouse))
    arrays = home.windows / found.digest
    arrays.mkdir(parents=True)
    write_arrays(arrays, found.arrays, dict(found.manifest))
    store = CheckpointStore(home)
    champion, challenger = (_untrained_chronos2(store, seed) for seed in (1, 2))
    outcome = run_comparison(challenger, champion, store, settings, arrays)
    assert outcome.skill is not None and outcome.origins == outcome.skill.origins == 6
    assert not home.warehouse.exists()


def _write_events(warehouse: Warehouse, rain: int) -> None:
    days = "SELECT unnest(range(DATE '2000-01-01', DATE '2004-01-31', INTERVAL 1 DAY))::DATE AS date"
    with warehouse.write() as connection:
        connection.execute(
            f"CREATE OR REPLACE TABLE weather AS SELECT date, day(date) % 5 * {rain} AS rain FROM ({days})"
        )


def _untrained_chronos2(store: CheckpointStore, seed: int) -> Checkpoint:
    torch.manual_seed(seed)
    pipeline = new_chronos2(CHRONOS, WINDOWS.predict_window)
    return store.publish("chronos2_model", {"seed": seed}, pipeline.save_pretrained, {"cutoff": "2002-12-31"})


def _other(settings: Settings, key: str) -> object:
    """Another value of a key, or of a key of a section."""
    changed: dict[str, dict[str, object]] = {
        "windows": {"embargo": 9},
        "forecasts": {"temperature": 0.5},
        "promotion": {"origins": 7},
        "compute": {"dtype": "bfloat16"},
        "chronos2": {"context_length": 48},
    }
    return 8 if key == "seed" else getattr(settings, key).model_copy(update=changed[key])


def test_origins_that_a_side_was_trained_on_are_left_out(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    settings = small_settings(home, promotion=PromotionSettings(origins=12, paths=30))
    windows, _, first = build_kronos_chain(home, warehouse, settings)
    other = small_settings(home, predictor=PREDICTOR.model_copy(update={"epochs": 1, "learning_rate": 1e-6}))
    _, _, second = build_kronos_chain(home, warehouse, other)
    assert (str(first.trained_until), str(first.cutoff)) == ("2002-12-31", "2003-12-31")
    request = predictor_comparison(home, second, first, windows.folder, settings)

    def trained(checkpoint: Checkpoint, until: str | None) -> ComparisonOutcome:
        (checkpoint.folder / CARD).write_text(json.dumps({**checkpoint.card, "trained_until": until}))
        return compare_checkpoints(request)

    some = trained(second, "2003-04-30")
    assert some.skill is not None and some.skill.origins == 12 - some.in_sample and 0 < some.in_sample < 7
    assert f"{some.in_sample} origins up to 2003-04-30, which the challenger was trained on" in some.text
    scores = candidate_scores(
        CandidateStore(home, first), settings, WindowArrays(windows.folder), 12, 30, date(2003, 4, 30)
    )
    assert scores["origin"].min() >= pd.Timestamp("2003-05-01")
    few = trained(second, "2003-11-28")
    assert not few.shows_better and not few.shows_no_worse
    assert few.text.startswith("undecided: ") and "(in-sample)" in few.text and "windows.validation" in few.text
    none = trained(second, "2024-06-30")
    assert none.skill is None and none.in_sample == 12 and not none.shows_no_worse
    assert "12 of 12 origins are up to 2024-06-30" in none.text and 'promotion.rule = "always"' in none.text
    json.dumps(none.to_dict(), allow_nan=False)
    unknown = trained(second, None)
    assert unknown.skill is not None and unknown.in_sample == 0
    assert "the challenger is unknown" in unknown.text
    trained(second, "2002-12-31")
    assert "which the champion was trained on" in trained(first, "2024-06-30").text


@pytest.mark.parametrize(
    ("changes", "until"),
    [
        ({}, "2009-12-31"),
        ({"base": {"cutoff": "2008-06-30"}}, "2009-12-31"),
        ({"base": {"cutoff": "2010-06-30"}}, "2010-06-30"),
        ({"cutoff": "2012-12-31"}, "2012-12-31"),
        ({"training": None}, "2010-12-31"),
        ({"training": None, "cutoff": None}, "None"),
        ({"trained_until": "2007-01-01"}, "2007-01-01"),
        ({"trained_until": None}, "None"),
    ],
)
def test_the_last_training_day_is_read_from_the_card(changes: dict[str, object], until: str) -> None:
    trained = {"train": {"last": "2009-12-31"}, "validation": {"last": "2010-12-31"}}
    assert str(trained_until({"cutoff": "2010-12-31", "training": trained, **changes})) == until


def test_a_hub_that_cannot_be_reached_is_named_in_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    home, warehouse = filled_home(tmp_path)
    settings = small_settings(home)
    windows, _, _ = build_kronos_chain(home, warehouse, settings)
    job = TrainingJob(
        kind="kronos_tokenizer",
        settings=settings,
        arrays=windows.folder,
        base="NeoQuasar/No-such-tokenizer",
        work=tmp_path / "work",
        out=tmp_path / "out",
    )
    file = tmp_path / "job.json"
    file.write_text(job.model_dump_json())
    assert main([str(file)]) == 1
    assert "NeoQuasar/No-such-tokenizer" in capsys.readouterr().out
