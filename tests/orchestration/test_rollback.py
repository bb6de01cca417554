"""`candlecast rollback` restores an earlier champion, and a second one undoes it."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from assets.training.model_selection.promotion import decide
from assets.training.model_selection.scoring import SkillComparison
from orchestration.cli.app import app
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.layout import Home
from resources.settings import PromotionSettings

BETTER = SkillComparison(0.5, 1.0, 0.5, 0.4, 0.6, 24)


def test_rollback_restores_the_previous_champion_and_can_be_undone(tmp_path: Path) -> None:
    store = CheckpointStore(Home(tmp_path))

    def promoted(content: str) -> Checkpoint:
        published = store.publish(
            "chronos2_model", {"is": content}, lambda f: _write(f, content), {"cutoff": "2010-12-31"}
        )
        decide(store, published, [], PromotionSettings(), lambda ours, theirs: BETTER)
        return published

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(app, ["rollback", "chronos2_model", *arguments, "--home", str(tmp_path), "--json"])
        return done.exit_code, json.loads(done.stdout)

    first, second = promoted("one"), promoted("two")
    assert call()[1]["digest"] == first.digest
    status, result = call()
    assert status == 1 and "--to" in result["error"]
    assert call("--to", second.digest[:10]) == (
        0,
        {"ok": True, "digest": second.digest, "replaced": first.digest, "reason": "manual"},
    )
    assert store.current("chronos2_model") == second
    assert call("--to", "nothing at all")[0] == 1


def _write(folder: Path, content: str) -> None:
    (folder / "model.safetensors").write_text(content)
