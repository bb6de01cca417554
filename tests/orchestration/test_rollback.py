"""The command that goes back to an earlier champion, and undoes that."""

import json
from pathlib import Path

from typer.testing import CliRunner

from assets.training.model_selection.promotion import decide
from assets.training.model_selection.scoring import SkillComparison
from orchestration.cli.app import app
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.layout import Home
from resources.settings import PromotionSettings

BETTER = SkillComparison(0.5, 1.0, 0.5, 0.4, 0.6, 24)


def test_going_back_and_undoing_it_are_one_command(tmp_path: Path):
    store = CheckpointStore(Home(tmp_path))

    def promoted(content: str) -> Checkpoint:
        made = store.publish("chronos2_model", {"is": content}, lambda f: _write(f, content), {"cutoff": "2010-12-31"})
        decide(store, made, [], PromotionSettings(), lambda ours, theirs: BETTER)
        return made

    def call(*words: str) -> tuple[int, dict]:
        done = CliRunner().invoke(app, ["rollback", "chronos2_model", *words, "--home", str(tmp_path), "--json"])
        return done.exit_code, json.loads(done.stdout)

    first, second = promoted("one"), promoted("two")
    assert call()[1]["digest"] == first.digest
    code, told = call()
    assert code == 1 and "--to" in told["error"]
    assert call("--to", second.digest[:10]) == (
        0,
        {"ok": True, "digest": second.digest, "over": first.digest, "why": "manual"},
    )
    assert store.current("chronos2_model") == second
    assert call("--to", "nothing at all")[0] == 1


def _write(folder: Path, content: str) -> None:
    (folder / "model.safetensors").write_text(content)
