"""Challenger against champion, in a process of its own: `python -m assets.training.contest CONTEST.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict

from assets.training.child import run_child
from assets.training.judging import Comparison
from assets.training.speech import speak_of
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.layout import Home
from resources.publish import digest_of, publish_bytes
from resources.settings import Settings

# Raised where a contest's result would be another: what an earlier version held is held again.
RULES = 2


class Contest(BaseModel):
    """Who meets whom, on which windows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path
    kind: Kind
    challenger: str
    champion: str
    arrays: Path
    settings: dict[str, Any]


def hold(
    challenger: Checkpoint,
    champion: Checkpoint,
    store: CheckpointStore,
    settings: Settings,
    arrays: Path,
    context: dg.AssetExecutionContext | None = None,
) -> Comparison:
    """The comparison of two checkpoints. Held once: the same contest again is read from its file.

    Args:
        context: the run that shows what the process says; none outside Dagster.
    """
    sections = {"windows", "forecasts", "promotion", "compute", "chronos2", "seed"}
    contest = Contest(
        home=store.home.root,
        kind=challenger.kind,
        challenger=challenger.digest,
        champion=champion.digest,
        arrays=arrays,
        settings=settings.model_dump(mode="json", include=sections),
    )
    told = contest.model_dump(mode="json", exclude={"home", "arrays"})
    name = digest_of({**told, "arrays": arrays.name, "rules": RULES})
    folder = store.home.checkpoints / challenger.kind / "contests"
    result = folder / f"{name}.json"
    if not result.is_file():
        file = folder / f"{name}.contest"
        publish_bytes(file, contest.model_dump_json().encode())
        try:
            command = [sys.executable, "-m", "assets.training.contest", str(file), str(result)]
            run_child(command, challenger.kind, context=context)
        finally:
            file.unlink(missing_ok=True)
    return Comparison(**json.loads(result.read_text()))


def run(contest: Contest) -> Comparison:
    """Let both forecast the same origins of the validation range."""
    from assets.training.arrays import WindowArrays
    from assets.training.judging import compare
    from assets.training.trial import TrialStore, trial_scores

    settings = Settings(home=contest.home, **contest.settings)
    home, rule = Home(contest.home), settings.promotion
    store = CheckpointStore(home)
    arrays = WindowArrays(contest.arrays)
    ours, theirs = (
        trial_scores(TrialStore(home, store.load(contest.kind, name)), settings, arrays, rule.origins, rule.paths)
        for name in (contest.challenger, contest.champion)
    )
    return compare(ours, theirs, settings.seed)


def main(argv: list[str]) -> int:
    """Run the contest of a file and write its result; 1 with its error told on failure."""

    def work() -> None:
        found = run(Contest.model_validate_json(Path(argv[0]).read_text()))
        publish_bytes(Path(argv[1]), json.dumps(found.to_dict()).encode())

    return speak_of(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
