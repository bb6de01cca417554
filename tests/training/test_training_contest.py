"""Two checkpoints forecast the same origins; the result is kept, and the same whoever asks."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from test_training_assets import made_in
from training_world import PREDICTOR, small_settings, world

from assets.training.data.dataset import WindowArrays
from assets.training.model_selection import comparison as contests
from assets.training.model_selection.candidates import TrialStore, trial_scores
from assets.training.model_selection.comparison import RULES, Contest, Outcome, hold, run
from assets.training.model_selection.scoring import Comparison, mean_rank_ic
from assets.training.worker.job import Job
from assets.training.worker.worker import main
from resources.checkpoints import CARD, Checkpoint, CheckpointStore, trained_until
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
    assert found == run(contest) and (found.origins, found.in_sample, found.unknown) == (6, 0, ())
    assert found.found is not None and found.found.origins == 6 and found.found.ours != found.found.theirs
    assert (found.words, found.to_dict()) == (found.found.words, found.found.to_dict())
    level = run(contest.model_copy(update={"challenger": first.digest}))
    assert level.found is not None and level.found.skill == level.found.low == level.found.high == 0.0
    store = CheckpointStore(home)
    told = contest.model_dump(mode="json", exclude={"home", "arrays"})
    name = digest_of({**told, "arrays": windows.digest, "rules": RULES})
    kept = home.checkpoints / "kronos_predictor/contests" / f"{name}.json"
    kept.parent.mkdir(parents=True)
    file = tmp_path / "one.contest"
    file.write_text(contest.model_dump_json())
    assert contests.main([str(file), str(kept)]) == 0
    assert hold(second, first, store, settings, windows.folder) == found
    written = Outcome(Comparison(1, 2, 0.5, 0.4, 0.6, 9), 12, 3, "2003-04-01", "the champion", ("the challenger",))
    kept.write_text(json.dumps(asdict(written)))
    assert hold(second, first, store, settings, windows.folder) == written
    scores = trial_scores(TrialStore(home, first), settings, WindowArrays(windows.folder), 6, 30)
    assert scores["origin"].nunique() == 6 and scores["crps"].gt(0).all()
    assert -1 <= mean_rank_ic(scores) <= 1 or mean_rank_ic(scores) != mean_rank_ic(scores)


def test_origins_that_moved_the_weights_of_a_side_are_left_out(tmp_path: Path) -> None:
    home, warehouse = world(tmp_path)
    settings = small_settings(home, promotion=PromotionSettings(origins=12, paths=30))
    windows, _, first = made_in(home, warehouse, settings)
    other = small_settings(home, predictor=PREDICTOR.model_copy(update={"epochs": 1, "learning_rate": 1e-6}))
    _, _, second = made_in(home, warehouse, other)
    assert (str(first.trained_until), str(first.cutoff)) == ("2002-12-31", "2003-12-31")
    contest = Contest(
        home=home.root,
        kind="kronos_predictor",
        challenger=second.digest,
        champion=first.digest,
        arrays=windows.folder,
        settings=settings.model_dump(
            mode="json", include={"windows", "forecasts", "promotion", "compute", "chronos2", "seed"}
        ),
    )

    def learnt(made: Checkpoint, until: str | None) -> Outcome:
        (made.folder / CARD).write_text(json.dumps({**made.card, "trained_until": until}))
        return run(contest)

    some = learnt(second, "2003-04-30")
    assert some.found is not None and some.found.origins == 12 - some.in_sample and 0 < some.in_sample < 7
    assert f"{some.in_sample} origins up to 2003-04-30, which the challenger learnt from" in some.words
    scores = trial_scores(TrialStore(home, first), settings, WindowArrays(windows.folder), 12, 30, date(2003, 4, 30))
    assert scores["origin"].min() >= pd.Timestamp("2003-05-01")
    few = learnt(second, "2003-11-28")
    assert not few.shows_better and not few.shows_no_worse
    assert few.words.startswith("not told: ") and "(in-sample)" in few.words and "windows.validation" in few.words
    none = learnt(second, "2024-06-30")
    assert none.found is None and none.in_sample == 12 and not none.shows_no_worse
    assert "12 of 12 origins lie up to 2024-06-30" in none.words and 'promotion.rule = "always"' in none.words
    json.dumps(none.to_dict(), allow_nan=False)
    unknown = learnt(second, None)
    assert unknown.found is not None and unknown.in_sample == 0
    assert unknown.words.endswith("up to which day the challenger learnt is not known: perhaps from these origins")
    learnt(second, "2002-12-31")
    assert "which the champion learnt from" in learnt(first, "2024-06-30").words


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
def test_until_when_weights_were_moved_is_told_by_their_card(changes: dict[str, object], until: str) -> None:
    trained = {"train": {"last": "2009-12-31"}, "validation": {"last": "2010-12-31"}}
    assert str(trained_until({"cutoff": "2010-12-31", "training": trained, **changes})) == until


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
