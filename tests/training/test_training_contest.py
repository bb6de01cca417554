"""Two checkpoints forecast the same origins; the result is kept, and the same whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_training_assets import made_in
from training_world import PREDICTOR, small_settings, world

from assets.training.arrays import WindowArrays
from assets.training.contest import RULES, Contest, hold, run
from assets.training.fit import main
from assets.training.job import Job
from assets.training.judging import Comparison, mean_rank_ic
from assets.training.trial import TrialStore, trial_scores
from resources.checkpoints import CheckpointStore
from resources.publish import digest_of
from resources.settings import PromotionSettings


def test_a_contest_is_the_same_twice_and_level_against_oneself(tmp_path: Path) -> None:
    home, warehouse = world(tmp_path)
    settings = small_settings(home, promotion=PromotionSettings(origins=6, paths=30))
    windows, _, first = made_in(home, warehouse, settings)
    other = small_settings(home, predictor=PREDICTOR.model_copy(update={"epochs": 1, "learning_rate": 1e-6}))
    _, _, second = made_in(home, warehouse, other)
    sections = {"windows", "forecasts", "promotion", "compute", "chronos2", "seed"}
    contest = Contest(
        home=home.root,
        kind="kronos_predictor",
        challenger=second.digest,
        champion=first.digest,
        arrays=windows.folder,
        settings=settings.model_dump(mode="json", include=sections),
    )
    found = run(contest)
    assert found == run(contest) and found.origins == 6 and found.ours != found.theirs
    level = run(contest.model_copy(update={"challenger": first.digest}))
    assert level.skill == level.low == level.high == 0.0
    store = CheckpointStore(home)
    told = contest.model_dump(mode="json", exclude={"home", "arrays"})
    name = digest_of({**told, "arrays": windows.digest, "rules": RULES})
    kept = home.checkpoints / "kronos_predictor/contests" / f"{name}.json"
    kept.parent.mkdir(parents=True)
    kept.write_text('{"ours": 1, "theirs": 2, "skill": 0.5, "low": 0.4, "high": 0.6, "origins": 9}')
    assert hold(second, first, store, settings, windows.folder) == Comparison(1, 2, 0.5, 0.4, 0.6, 9)
    scores = trial_scores(TrialStore(home, first), settings, WindowArrays(windows.folder), 6, 30)
    assert scores["origin"].nunique() == 6 and scores["crps"].gt(0).all()
    assert -1 <= mean_rank_ic(scores) <= 1 or mean_rank_ic(scores) != mean_rank_ic(scores)


def test_a_hub_that_cannot_be_reached_is_said_by_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    home, warehouse = world(tmp_path)
    settings = small_settings(home)
    windows, _, _ = made_in(home, warehouse, settings)
    job = Job(
        kind="kronos_tokenizer",
        seed=7,
        windows=settings.windows,
        tokenizer_settings=settings.tokenizer,
        compute=settings.compute,
        arrays=windows.folder,
        base="NeoQuasar/No-such-tokenizer",
        work=tmp_path / "work",
        out=tmp_path / "out",
    )
    file = tmp_path / "job.json"
    file.write_text(job.model_dump_json())
    assert main([str(file)]) == 1
    assert "NeoQuasar/No-such-tokenizer" in capsys.readouterr().out
