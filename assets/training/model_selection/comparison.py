"""Challenger against champion, in a process of its own.

`python -m assets.training.model_selection.comparison CONTEST.json`.

They are compared on origins whose bars moved the weights of neither. The validation range chose the weights of most
checkpoints, of both sides alike; weights that learnt from it by gradient would win there by memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict

from assets.training.model_selection.scoring import FEWEST_ORIGINS, Comparison
from assets.training.worker.pipes_client import run_child
from assets.training.worker.pipes_reporting import speak_of
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.layout import Home
from resources.publish import digest_of, publish_bytes
from resources.settings import Settings

# Raised where a contest's result would be another: what an earlier version held is held again.
RULES = 3


class Contest(BaseModel):
    """Who meets whom, on which windows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path
    kind: Kind
    challenger: str
    champion: str
    arrays: Path
    settings: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a contest showed.

    Attributes:
        found: none where no origin was left to compare on.
        origins: the origins of the validation range that were looked at.
        in_sample: how many of them were left out, for bars up to `seen_until` moved the weights of `learner`.
        unknown: the sides that do not say up to which day they learnt.
    """

    found: Comparison | None
    origins: int
    in_sample: int = 0
    seen_until: str | None = None
    learner: str | None = None
    unknown: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The evidence for the ledger."""
        numbers: dict[str, Any] = {} if self.found is None else self.found.to_dict()
        return numbers | ({"in_sample": float(self.in_sample)} if self.in_sample else {})

    @property
    def shows_better(self) -> bool:
        return self.found is not None and self.found.shows_better

    @property
    def shows_no_worse(self) -> bool:
        return self.found is not None and self.found.shows_no_worse

    @property
    def words(self) -> str:
        told = self.found is not None and self.found.low is not None
        seen = f"up to {self.seen_until}, which {self.learner} learnt from (in-sample)"
        if self.in_sample and not told:
            words = (
                f"not told: {self.in_sample} of {self.origins} origins lie {seen}; an interval needs at least "
                f"{FEWEST_ORIGINS} later ones: move windows.validation on beyond that day, or set promotion.rule = "
                '"always" to use the newest without a comparison'
            )
        else:
            words = "" if self.found is None else self.found.words
            words += f"; {self.in_sample} origins {seen}, were left out" if self.in_sample else ""
        if self.unknown:
            words += f"; up to which day {' and '.join(self.unknown)} learnt is not known: perhaps from these origins"
        return words


def hold(
    challenger: Checkpoint,
    champion: Checkpoint,
    store: CheckpointStore,
    settings: Settings,
    arrays: Path,
    context: dg.AssetExecutionContext | None = None,
) -> Outcome:
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
            command = [sys.executable, "-m", "assets.training.model_selection.comparison", str(file), str(result)]
            run_child(command, challenger.kind, context=context)
        finally:
            file.unlink(missing_ok=True)
    told = json.loads(result.read_text())
    found, unknown = told.pop("found"), tuple(told.pop("unknown"))
    return Outcome(Comparison(**found) if found else None, unknown=unknown, **told)


def run(contest: Contest) -> Outcome:
    """Let both forecast the same origins of the validation range, but for those that either learnt from."""
    from assets.training.data.dataset import WindowArrays
    from assets.training.model_selection.candidates import TrialStore, trial_scores
    from assets.training.model_selection.scoring import compare, validation_tasks

    settings = Settings(home=contest.home, **contest.settings)
    home, rule = Home(contest.home), settings.promotion
    store = CheckpointStore(home)
    arrays = WindowArrays(contest.arrays)
    sides = [store.load(contest.kind, name) for name in (contest.challenger, contest.champion)]
    seen_until, learner, unknown = _learnt(sides)
    ours, theirs = (
        trial_scores(TrialStore(home, side), settings, arrays, rule.origins, rule.paths, seen_until) for side in sides
    )
    origins = len({task.origin for task in validation_tasks(arrays, rule.origins)})
    in_sample = origins - ours["origin"].nunique()
    found = None if ours.empty else compare(ours, theirs, settings.seed)
    return Outcome(found, origins, in_sample, str(seen_until) if seen_until else None, learner, unknown)


def _learnt(sides: Sequence[Checkpoint]) -> tuple[date | None, str | None, tuple[str, ...]]:
    """The last day that moved the weights of either side, whose they are, and the sides that do not say."""
    names = dict(zip(("the challenger", "the champion"), sides, strict=True))
    known = {name: day for name, side in names.items() if (day := side.trained_until)}
    unknown = tuple(name for name, side in names.items() if side.trained_until is None)
    learner = max(known, key=lambda name: known[name], default=None)
    return (known[learner] if learner else None), learner, unknown


def main(argv: list[str]) -> int:
    """Run the contest of a file and write its result; 1 with its error told on failure."""

    def work() -> None:
        found = run(Contest.model_validate_json(Path(argv[0]).read_text()))
        publish_bytes(Path(argv[1]), json.dumps(asdict(found)).encode())

    return speak_of(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
