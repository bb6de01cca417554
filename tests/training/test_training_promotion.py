"""A new checkpoint takes over when it is sound and not shown to be worse; the way back is one command."""

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
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import PromotionSettings

WORSE = SkillComparison(2.0, 1.0, -1.0, -1.2, -0.8, 24)
LEVEL = SkillComparison(1.0, 1.0, 0.0, -0.1, 0.1, 24)
BETTER = SkillComparison(0.5, 1.0, 0.5, 0.4, 0.6, 24)


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(Home(tmp_path))


def published(store: CheckpointStore, content: str) -> Checkpoint:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_text(content)

    return store.publish("kronos_predictor", {"recipe": content}, write, {"cutoff": "2010-12-31"})


def settle(
    store: CheckpointStore, made: Checkpoint, found: SkillComparison, rule: str = "not_worse", wrong: str = ""
) -> str:
    settings = PromotionSettings.model_validate({"rule": rule})
    return decide(store, made, [wrong] if wrong else [], settings, lambda ours, theirs: found).action


@pytest.mark.parametrize(
    ("rule", "found", "action"),
    [
        ("not_worse", WORSE, "kept"),
        ("not_worse", LEVEL, "promoted"),
        ("better", LEVEL, "kept"),
        ("better", BETTER, "promoted"),
        ("always", WORSE, "promoted"),
    ],
)
def test_the_rule_decides_by_the_interval(
    store: CheckpointStore, rule: str, found: SkillComparison, action: str
) -> None:
    first, second = published(store, "one"), published(store, "two")
    assert settle(store, first, WORSE) == "promoted"
    assert settle(store, second, found, rule) == action
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == (second if action == "promoted" else first).digest
    assert PromotionLedger(store.home, "kronos_predictor").decisions()[-1].action == action


def test_an_unsound_challenger_leaves_the_champion(store: CheckpointStore) -> None:
    first, second = published(store, "one"), published(store, "two")
    settle(store, first, BETTER)
    assert settle(store, second, BETTER, wrong="not finite: head") == "kept"
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == first.digest
    assert "not finite: head" in PromotionLedger(store.home, "kronos_predictor").decisions()[-1].why


def test_an_unsound_first_is_never_in_use(store: CheckpointStore) -> None:
    settle(store, published(store, "one"), BETTER, wrong="collapsed")
    assert store.current("kronos_predictor") is None


def test_deciding_again_writes_nothing(store: CheckpointStore) -> None:
    first = published(store, "one")
    settle(store, first, BETTER)
    before = {f: f.stat().st_mtime_ns for f in store.home.root.rglob("*") if f.is_file()}
    assert settle(store, first, BETTER) == "kept"
    assert before == {f: f.stat().st_mtime_ns for f in store.home.root.rglob("*") if f.is_file()}


def test_a_rollback_returns_to_the_champion_before_and_lasts(store: CheckpointStore) -> None:
    first, second = published(store, "one"), published(store, "two")
    settle(store, first, BETTER)
    settle(store, second, BETTER)
    assert rollback(store, "kronos_predictor").digest == first.digest
    assert settle(store, second, BETTER) == "kept"
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == first.digest
    with pytest.raises(CandlecastError, match="no earlier champion of kronos_predictor"):
        rollback(store, "kronos_predictor")


def test_rolling_back_is_one_command(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = published(store, "one"), published(store, "two")
    settle(store, first, BETTER)
    settle(store, second, BETTER)
    monkeypatch.setenv("CANDLECAST_HOME", str(store.home.root))
    assert main(["rollback", "kronos_predictor"]) == 0
    assert '"rolled back"' in capsys.readouterr().out
    assert main(["rollback", "kronos_predictor"]) == 1
    assert main(["rollback", "kronos_predictor", "--to", second.digest[:12]]) == 0
    assert store.current("kronos_predictor") == second


def test_a_rollback_is_undone_by_naming_what_was_rolled_back(store: CheckpointStore) -> None:
    kind = "kronos_predictor"
    first, second = published(store, "one"), published(store, "two")
    settle(store, first, BETTER)
    settle(store, second, BETTER)
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


def test_only_a_whole_checkpoint_can_be_named(store: CheckpointStore) -> None:
    first, second = published(store, "one"), published(store, "two")
    settle(store, first, BETTER)
    with pytest.raises(CandlecastError, match="0 checkpoints of kronos_predictor begin with"):
        rollback(store, "kronos_predictor", "f" * 12)
    with pytest.raises(CandlecastError, match="at least 8 characters"):
        rollback(store, "kronos_predictor", second.digest[:3])
    (second.folder / "model.safetensors").write_text("t")
    with pytest.raises(CandlecastError, match=f"{second.folder} is damaged"):
        rollback(store, "kronos_predictor", second.digest)
    assert store.current("kronos_predictor") == first
    assert len(PromotionLedger(store.home, "kronos_predictor").decisions()) == 1


@pytest.mark.parametrize("rule", ["not_worse", "better", "always"])
def test_where_the_champion_is_gone_the_challenger_is_let_in(store: CheckpointStore, rule: str) -> None:
    first, second = published(store, "one"), published(store, "two")
    settle(store, first, BETTER)
    shutil.rmtree(first.folder)
    with pytest.raises(CandlecastError, match="0 checkpoints of kronos_predictor begin with"):
        store.current("kronos_predictor")
    assert settle(store, second, WORSE, rule, wrong="collapsed") == "kept"
    with pytest.raises(CandlecastError, match="0 checkpoints of kronos_predictor begin with"):
        store.current("kronos_predictor")
    assert settle(store, second, WORSE, rule) == "promoted"
    assert store.current("kronos_predictor") == second
    told = PromotionLedger(store.home, "kronos_predictor").decisions()[-1]
    assert told.over == first.digest and first.digest[:16] in told.why


def test_where_the_champion_is_gone_the_way_back_leads_to_one_that_is_there(store: CheckpointStore) -> None:
    first, second, third = (published(store, name) for name in ("one", "two", "three"))
    for made in (first, second, third):
        settle(store, made, BETTER)
    shutil.rmtree(third.folder)
    shutil.rmtree(second.folder)
    decision = rollback(store, "kronos_predictor")
    assert decision.digest == first.digest and third.digest[:16] in decision.why
    assert store.current("kronos_predictor") == first
    assert settle(store, published(store, "three"), BETTER) == "promoted", "it was not turned down"


@pytest.mark.parametrize("rule", ["not_worse", "better"])
def test_too_few_origins_decide_nothing_and_are_written_down_once(store: CheckpointStore, rule: str) -> None:
    untold = SkillComparison(1.0, 1.1, 0.1, None, None, 4)
    first, second = published(store, "one"), published(store, "two")
    settle(store, first, BETTER)
    for _ in range(3):
        assert settle(store, second, untold, rule) == "kept"
    ledger = PromotionLedger(store.home, "kronos_predictor")
    assert len(ledger.decisions()) == 2 and "4 origins in common" in ledger.decisions()[-1].why
    json.loads(ledger.file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_promotion_that_was_killed_half_way_is_completed_and_can_be_rolled_back(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (published(store, name) for name in ("one", "two", "three"))
    settle(store, first, BETTER)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "set_current", killed)
        with pytest.raises(KeyboardInterrupt):
            settle(store, second, BETTER)
    assert settle(store, second, BETTER) == "kept"
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == second.digest
    settle(store, third, BETTER)
    assert rollback(store, "kronos_predictor").digest == second.digest


def test_a_removed_checkpoint_is_made_again_and_named_anew(store: CheckpointStore) -> None:
    first, second = published(store, "one"), published(store, "two")
    store.set_made("kronos_predictor", first.digest)
    shutil.rmtree(first.folder)
    assert store.find("kronos_predictor", {"recipe": "one"}) is None
    assert store.set_made("kronos_predictor", second.digest) == store.made("kronos_predictor")
    assert published(store, "one").digest == first.digest
    assert store.find("kronos_predictor", {"recipe": "one"}) is not None


def test_decisions_of_the_same_moment_are_all_written_down(store: CheckpointStore) -> None:
    def several(who: int) -> None:
        for number in range(10):
            PromotionLedger(store.home, "kronos_predictor").add(
                PromotionDecision("kept", f"{who}", f"{number}", "a test")
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(several, range(4)))
    assert len(PromotionLedger(store.home, "kronos_predictor").decisions()) == 40


@pytest.mark.parametrize("content", [b'[{"action": "prom', b"\xff\xfe", b'[{"verdict": 1}]'])
def test_a_damaged_ledger_is_named_and_what_is_in_use_stays(store: CheckpointStore, content: bytes) -> None:
    first = published(store, "one")
    settle(store, first, LEVEL)
    PromotionLedger(store.home, "kronos_predictor").file.write_bytes(content)
    with pytest.raises(CandlecastError, match=r"promotions\.json is damaged"):
        rollback(store, "kronos_predictor")
    assert store.current("kronos_predictor") == first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_damaged_pointer_is_named_and_what_to_do_mends_it(store: CheckpointStore, content: bytes) -> None:
    made = published(store, "one")
    settle(store, made, LEVEL)
    pointer = made.folder.parent / "current.json"
    whole = pointer.read_bytes()
    pointer.write_bytes(content)
    with pytest.raises(CandlecastError, match=r"current\.json .*remove it"):
        store.current("kronos_predictor")
    pointer.unlink()
    settle(store, made, LEVEL)
    assert pointer.read_bytes() == whole


def test_an_old_champion_expires(store: CheckpointStore) -> None:
    made = published(store, "one")
    settings = PromotionSettings(expires_days=90)
    assert expiry_problem(made, date(2011, 3, 1), settings) is None
    assert "2011-03-31" in str(expiry_problem(made, date(2011, 4, 1), settings))
    assert expiry_problem(made, date(2030, 1, 1), PromotionSettings()) is None


def test_a_champion_of_unknown_cutoff_is_of_unknown_age(store: CheckpointStore) -> None:
    made = store.publish("kronos_predictor", {}, lambda folder: (folder / "x").write_text("x") and None, {})
    assert "promotion.expires_days" in str(expiry_problem(made, date(2011, 3, 1), PromotionSettings(expires_days=90)))
    assert expiry_problem(made, date(2030, 1, 1), PromotionSettings()) is None


def scores(origins: pd.DatetimeIndex, crps: np.ndarray, reach: pd.Timedelta) -> pd.DataFrame:
    return pd.DataFrame({"symbol": "A", "origin": origins, "until": origins + reach, "step": 1, "crps": crps})


def test_a_comparison_knows_better_from_noise() -> None:
    rng = np.random.default_rng(7)
    days = pd.date_range("2010-01-04", periods=40, freq="14D")
    base = scores(days, 2 + rng.random(40), pd.Timedelta("14D"))
    better = base.assign(crps=base["crps"] * 0.9)
    noise = base.assign(crps=base["crps"] + rng.normal(0, 0.5, 40))
    assert compare_skill(better, base, 7).low > 0.09
    level = compare_skill(noise, base, 7)
    assert level.low < 0 < level.high
    assert compare_skill(better, base, 7) == compare_skill(better, base, 7)


@pytest.mark.parametrize(
    ("origins", "between", "horizon"),
    [(24, 5, 10), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((8, 30, 10), (24, 10, 10), (40, 5, 20)))],
)
def test_an_interval_holds_a_skill_of_nothing_about_as_often_as_it_says(
    origins: int, between: int, horizon: int
) -> None:
    """Losses that overlap as forecasts do, over bars of an hour: both sides as good."""
    rng = np.random.default_rng(origins)
    hours = pd.date_range("2010-01-04", periods=origins, freq=f"{between}h")
    held = 0
    for _ in range(100):
        bars = np.cumsum(rng.standard_normal(origins * between + horizon + 1))
        first = np.arange(origins) * between
        gap = (bars[first + horizon] - bars[first]) / np.sqrt(horizon)
        ours = scores(hours, 100 + gap, pd.Timedelta(hours=horizon))
        found = compare_skill(ours, ours.assign(crps=100.0), 7)
        held += found.low <= 0 <= found.high
    assert 80 <= held <= 97


@pytest.mark.parametrize(("origins", "covering"), [(5, 1), (24, 5), (40, 10)])
def test_too_few_origins_of_their_own_are_no_evidence(origins: int, covering: int) -> None:
    minutes = pd.date_range("2010-01-04 14:30", periods=origins, freq="5min")
    base = scores(minutes, np.linspace(1, 2, origins), pd.Timedelta(minutes=5 * covering))
    found = compare_skill(base.assign(crps=base["crps"] * 0.5), base, 7)
    assert found.low is None and "windows.validation" in found.text
    assert not found.shows_better and not found.shows_no_worse


def test_a_symbol_that_was_suspended_keeps_no_comparison_from_being_told() -> None:
    days = pd.date_range("2010-01-04", periods=24, freq="14D")
    rng = np.random.default_rng(7)
    several = pd.concat(
        [scores(days, 2 + rng.random(24), pd.Timedelta("14D")).assign(symbol=symbol) for symbol in "ABCDE"]
    )
    several.loc[(several["symbol"] == "E") & (several["origin"] == days[3]), "until"] += pd.Timedelta("200D")
    found = compare_skill(several.assign(crps=several["crps"] * 0.8), several, 7)
    assert found.shows_better
