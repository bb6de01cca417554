"""A checkpoint is promoted if it passes its checks and is not shown to be worse; rollback is one command."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.training.model_selection.promotion import (
    PromotionDecision,
    PromotionLedger,
    decide,
    expiry_problem,
    main,
    rollback,
)
from assets.training.model_selection.scoring import SkillComparison, compare_skill
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import PromotionSettings

WORSE = SkillComparison(2.0, 1.0, -1.0, -1.2, -0.8, 24)
EQUAL = SkillComparison(1.0, 1.0, 0.0, -0.1, 0.1, 24)
BETTER = SkillComparison(0.5, 1.0, 0.5, 0.4, 0.6, 24)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(Home(tmp_path))


def publish(store: CheckpointStore, content: str) -> Checkpoint:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text(content)

    return store.publish("kronos_predictor", {"recipe": content}, write, {"cutoff": "2010-12-31"})


def decide_on(
    store: CheckpointStore,
    checkpoint: Checkpoint,
    comparison: SkillComparison,
    rule: str = "not_worse",
    problem: str = "",
) -> str:
    settings = PromotionSettings.model_validate({"rule": rule})
    return decide(store, checkpoint, [problem] if problem else [], settings, lambda ours, theirs: comparison).action


@pytest.mark.parametrize(
    ("rule", "found", "action"),
    [
        ("not_worse", WORSE, "kept"),
        ("not_worse", EQUAL, "promoted"),
        ("better", EQUAL, "kept"),
        ("better", BETTER, "promoted"),
        ("always", WORSE, "promoted"),
    ],
)
def test_the_rule_decides_by_the_interval(
    store: CheckpointStore, rule: str, found: SkillComparison, action: str
) -> None:
    first, second = publish(store, "one"), publish(store, "two")
    assert decide_on(store, first, WORSE) == "promoted"
    assert decide_on(store, second, found, rule) == action
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == (second if action == "promoted" else first).digest
    assert PromotionLedger(store.home, "kronos_predictor").decisions()[-1].action == action


def test_the_challenger_is_compared_with_the_champion_and_not_the_reverse(store: CheckpointStore) -> None:
    first, second = publish(store, "one"), publish(store, "two")
    decide_on(store, first, BETTER)
    scores = {first.digest: 2.0, second.digest: 1.0}

    def compare(challenger: Checkpoint, champion: Checkpoint) -> SkillComparison:
        return BETTER if scores[challenger.digest] < scores[champion.digest] else WORSE

    settings = PromotionSettings(rule="better")
    assert decide(store, second, [], settings, compare).action == "promoted"
    assert decide(store, first, [], settings, compare).action == "kept"
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == second.digest


def test_a_challenger_that_fails_a_check_leaves_the_champion_in_use(store: CheckpointStore) -> None:
    first, second = publish(store, "one"), publish(store, "two")
    decide_on(store, first, BETTER)
    assert decide_on(store, second, BETTER, problem="not finite: head") == "kept"
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == first.digest
    assert "not finite: head" in PromotionLedger(store.home, "kronos_predictor").decisions()[-1].why


def test_a_first_checkpoint_that_fails_a_check_is_not_in_use(store: CheckpointStore) -> None:
    decide_on(store, publish(store, "one"), BETTER, problem="collapsed")
    assert store.current("kronos_predictor") is None


def test_deciding_again_writes_nothing(store: CheckpointStore) -> None:
    first = publish(store, "one")
    decide_on(store, first, BETTER)
    before = {f: f.stat().st_mtime_ns for f in store.home.root.rglob("*") if f.is_file()}
    assert decide_on(store, first, BETTER) == "kept"
    assert before == {f: f.stat().st_mtime_ns for f in store.home.root.rglob("*") if f.is_file()}


def test_a_rollback_returns_to_the_previous_champion_and_lasts(store: CheckpointStore) -> None:
    first, second = publish(store, "one"), publish(store, "two")
    decide_on(store, first, BETTER)
    decide_on(store, second, BETTER)
    assert rollback(store, "kronos_predictor").digest == first.digest
    assert decide_on(store, second, BETTER) == "kept"
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == first.digest
    with pytest.raises(CandlecastError, match="no earlier champion of kronos_predictor"):
        rollback(store, "kronos_predictor")


def test_rolling_back_is_one_command(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = publish(store, "one"), publish(store, "two")
    decide_on(store, first, BETTER)
    decide_on(store, second, BETTER)
    monkeypatch.setenv("CANDLECAST_HOME", str(store.home.root))
    assert main(["rollback", "kronos_predictor"]) == 0
    assert '"rolled back"' in capsys.readouterr().out
    assert main(["rollback", "kronos_predictor"]) == 1
    assert main(["rollback", "kronos_predictor", "--to", second.digest[:12]]) == 0
    assert store.current("kronos_predictor") == second


def test_a_rollback_is_undone_by_promoting_the_rolled_back_checkpoint(store: CheckpointStore) -> None:
    kind: Kind = "kronos_predictor"
    first, second = publish(store, "one"), publish(store, "two")
    decide_on(store, first, BETTER)
    decide_on(store, second, BETTER)
    rollback(store, kind)
    undone = rollback(store, kind, second.digest[:10])
    assert (undone.action, undone.digest, undone.over) == ("promoted", second.digest, first.digest)
    assert PromotionLedger(store.home, kind).decisions()[-1] == undone and "manual" in undone.why
    assert store.current(kind) == second
    assert rollback(store, kind, second.digest).action == "kept"
    assert not PromotionLedger(store.home, kind).rejected()
    assert rollback(store, kind).digest == first.digest
    rollback(store, kind, second.digest)
    again = rollback(store, kind, first.digest)
    assert again.action == "rolled back" and PromotionLedger(store.home, kind).rejected() == {second.digest}


def test_only_an_undamaged_checkpoint_can_be_rolled_back_to(store: CheckpointStore) -> None:
    first, second = publish(store, "one"), publish(store, "two")
    decide_on(store, first, BETTER)
    with pytest.raises(CandlecastError, match="0 kronos_predictor checkpoints"):
        rollback(store, "kronos_predictor", "f" * 12)
    with pytest.raises(CandlecastError, match="at least 8 characters"):
        rollback(store, "kronos_predictor", second.digest[:3])
    (second.folder / "model.safetensors").write_text("t")
    with pytest.raises(CandlecastError, match=f"{second.folder} is damaged"):
        rollback(store, "kronos_predictor", second.digest)
    assert store.current("kronos_predictor") == first
    assert len(PromotionLedger(store.home, "kronos_predictor").decisions()) == 1


@pytest.mark.parametrize("rule", ["not_worse", "better", "always"])
def test_a_challenger_of_a_missing_champion_is_promoted(store: CheckpointStore, rule: str) -> None:
    first, second = publish(store, "one"), publish(store, "two")
    decide_on(store, first, BETTER)
    shutil.rmtree(first.folder)
    with pytest.raises(CandlecastError, match="0 kronos_predictor checkpoints"):
        store.current("kronos_predictor")
    assert decide_on(store, second, WORSE, rule, problem="collapsed") == "kept"
    with pytest.raises(CandlecastError, match="0 kronos_predictor checkpoints"):
        store.current("kronos_predictor")
    assert decide_on(store, second, WORSE, rule) == "promoted"
    assert store.current("kronos_predictor") == second
    newest = PromotionLedger(store.home, "kronos_predictor").decisions()[-1]
    assert newest.over == first.digest and first.digest[:16] in newest.why


def test_a_rollback_from_a_missing_champion_returns_to_an_existing_one(store: CheckpointStore) -> None:
    first, second, third = (publish(store, name) for name in ("one", "two", "three"))
    for checkpoint in (first, second, third):
        decide_on(store, checkpoint, BETTER)
    shutil.rmtree(third.folder)
    shutil.rmtree(second.folder)
    decision = rollback(store, "kronos_predictor")
    assert decision.digest == first.digest and third.digest[:16] in decision.why
    assert store.current("kronos_predictor") == first
    assert decide_on(store, publish(store, "three"), BETTER) == "promoted", "it was not rolled back"


@pytest.mark.parametrize("rule", ["not_worse", "better"])
def test_too_few_origins_keep_the_champion_and_are_recorded_once(store: CheckpointStore, rule: str) -> None:
    undecided = SkillComparison(1.0, 1.1, 0.1, None, None, 4)
    first, second = publish(store, "one"), publish(store, "two")
    decide_on(store, first, BETTER)
    for _ in range(3):
        assert decide_on(store, second, undecided, rule) == "kept"
    ledger = PromotionLedger(store.home, "kronos_predictor")
    assert len(ledger.decisions()) == 2 and "4 origins in common" in ledger.decisions()[-1].why
    json.loads(ledger.file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_an_interrupted_promotion_is_completed_and_can_be_rolled_back(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (publish(store, name) for name in ("one", "two", "three"))
    decide_on(store, first, BETTER)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "set_current", killed)
        with pytest.raises(KeyboardInterrupt):
            decide_on(store, second, BETTER)
    assert decide_on(store, second, BETTER) == "kept"
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == second.digest
    decide_on(store, third, BETTER)
    assert rollback(store, "kronos_predictor").digest == second.digest


def test_a_removed_checkpoint_is_rebuilt_under_the_same_digest(store: CheckpointStore) -> None:
    first, second = publish(store, "one"), publish(store, "two")
    store.set_built("kronos_predictor", first.digest)
    shutil.rmtree(first.folder)
    assert store.find("kronos_predictor", {"recipe": "one"}) is None
    assert store.set_built("kronos_predictor", second.digest) == store.built("kronos_predictor")
    assert publish(store, "one").digest == first.digest
    assert store.find("kronos_predictor", {"recipe": "one"}) is not None


def test_concurrent_decisions_are_all_recorded(store: CheckpointStore) -> None:
    def several(who: int) -> None:
        for number in range(10):
            PromotionLedger(store.home, "kronos_predictor").add(
                PromotionDecision("kept", f"{who}", f"{number}", "a test")
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(several, range(4)))
    assert len(PromotionLedger(store.home, "kronos_predictor").decisions()) == 40


@pytest.mark.parametrize("content", [b'[{"action": "prom', b"\xff\xfe", b'[{"verdict": 1}]'])
def test_a_damaged_ledger_is_reported_and_leaves_the_checkpoint_in_use(store: CheckpointStore, content: bytes) -> None:
    first = publish(store, "one")
    decide_on(store, first, EQUAL)
    PromotionLedger(store.home, "kronos_predictor").file.write_bytes(content)
    with pytest.raises(CandlecastError, match=r"promotions\.json is damaged"):
        rollback(store, "kronos_predictor")
    assert store.current("kronos_predictor") == first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_damaged_pointer_is_reported_with_a_remedy_that_works(store: CheckpointStore, content: bytes) -> None:
    checkpoint = publish(store, "one")
    decide_on(store, checkpoint, EQUAL)
    pointer = checkpoint.folder.parent / "current.json"
    content_before = pointer.read_bytes()
    pointer.write_bytes(content)
    with pytest.raises(CandlecastError, match=r"current\.json .*remove it"):
        store.current("kronos_predictor")
    pointer.unlink()
    decide_on(store, checkpoint, EQUAL)
    assert pointer.read_bytes() == content_before


def test_a_champion_expires_after_its_days(store: CheckpointStore) -> None:
    checkpoint = publish(store, "one")
    settings = PromotionSettings(expires_days=90)
    assert expiry_problem(checkpoint, date(2011, 3, 1), settings) is None
    assert "2011-03-31" in str(expiry_problem(checkpoint, date(2011, 4, 1), settings))
    assert expiry_problem(checkpoint, date(2030, 1, 1), PromotionSettings()) is None


def _write_x(folder: Path) -> None:
    (folder / "x").write_text("x")


def test_a_champion_of_unknown_cutoff_counts_as_expired(store: CheckpointStore) -> None:
    checkpoint = store.publish("kronos_predictor", {}, _write_x, {})
    assert "promotion.expires_days" in str(
        expiry_problem(checkpoint, date(2011, 3, 1), PromotionSettings(expires_days=90))
    )
    assert expiry_problem(checkpoint, date(2030, 1, 1), PromotionSettings()) is None


def scores(origins: pd.DatetimeIndex, crps: np.ndarray, reach: pd.Timedelta) -> pd.DataFrame:
    return pd.DataFrame({"symbol": "A", "origin": origins, "until": origins + reach, "step": 1, "crps": crps})


def interval(comparison: SkillComparison) -> tuple[float, float]:
    assert comparison.low is not None and comparison.high is not None
    return comparison.low, comparison.high


def test_a_comparison_separates_better_from_noise() -> None:
    rng = np.random.default_rng(7)
    days = pd.date_range("2010-01-04", periods=40, freq="14D")
    base = scores(days, 2 + rng.random(40), pd.Timedelta("14D"))
    better = base.assign(crps=base["crps"] * 0.9)
    noise = base.assign(crps=base["crps"] + rng.normal(0, 0.5, 40))
    low, _ = interval(compare_skill(better, base, 7))
    assert low > 0.09
    low, high = interval(compare_skill(noise, base, 7))
    assert low < 0 < high
    assert compare_skill(better, base, 7) == compare_skill(better, base, 7)


@pytest.mark.parametrize(
    ("origins", "between", "horizon"),
    [(24, 5, 10), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((8, 30, 10), (24, 10, 10), (40, 5, 20)))],
)
def test_an_interval_covers_zero_skill_about_as_often_as_its_confidence(
    origins: int, between: int, horizon: int
) -> None:
    """Losses with the autocorrelation of overlapping forecasts, on hourly bars; both sides are equally good."""
    rng = np.random.default_rng(origins)
    hours = pd.date_range("2010-01-04", periods=origins, freq=f"{between}h")
    covered = 0
    for _ in range(100):
        bars = np.cumsum(rng.standard_normal(origins * between + horizon + 1))
        first = np.arange(origins) * between
        gap = (bars[first + horizon] - bars[first]) / np.sqrt(horizon)
        ours = scores(hours, 100 + gap, pd.Timedelta(hours=horizon))
        low, high = interval(compare_skill(ours, ours.assign(crps=100.0), 7))
        covered += low <= 0 <= high
    assert 80 <= covered <= 97


@pytest.mark.parametrize(("origins", "overlap"), [(5, 1), (24, 5), (40, 10)])
def test_too_few_non_overlapping_origins_are_no_evidence(origins: int, overlap: int) -> None:
    minutes = pd.date_range("2010-01-04 14:30", periods=origins, freq="5min")
    base = scores(minutes, np.linspace(1, 2, origins), pd.Timedelta(minutes=5 * overlap))
    found = compare_skill(base.assign(crps=base["crps"] * 0.5), base, 7)
    assert found.low is None and "windows.validation" in found.text
    assert not found.shows_better and not found.shows_no_worse


def test_a_suspended_symbol_does_not_prevent_a_comparison() -> None:
    days = pd.date_range("2010-01-04", periods=24, freq="14D")
    rng = np.random.default_rng(7)
    several = pd.concat(
        [scores(days, 2 + rng.random(24), pd.Timedelta("14D")).assign(symbol=symbol) for symbol in "ABCDE"]
    )
    several.loc[(several["symbol"] == "E") & (several["origin"] == days[3]), "until"] += pd.Timedelta("200D")
    found = compare_skill(several.assign(crps=several["crps"] * 0.8), several, 7)
    assert found.shows_better
