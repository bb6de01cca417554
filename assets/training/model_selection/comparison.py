"""Champion/challenger comparison of two checkpoints, in a process of its own.

`python -m assets.training.model_selection.comparison REQUEST.json RESULT.json`.

The checkpoints are compared on origins of the validation range that neither was trained on. Most checkpoints were
selected on that range, both sides alike; a checkpoint trained on it would be better there without being better later.
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
from pydantic import BaseModel, ConfigDict, Field

from assets.forecasting.chronos2.groups import read_groups
from assets.forecasting.chronos2.input_settings import events_recipe
from assets.forecasting.known_events import export_events
from assets.training.model_selection.scoring import FEWEST_ORIGINS, SkillComparison
from assets.training.worker.pipes_client import run_pipes_child
from assets.training.worker.pipes_reporting import run_and_report
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.integrity import publish_kept_json, read_kept_json
from resources.layout import Home
from resources.publish import digest_of, scratch_folder
from resources.settings import Settings

# Raised when a comparison would give another result: results of an earlier version are then not used.
COMPARISON_VERSION = 3
# The parts of the settings that a result depends on.
SECTIONS = {"windows", "forecasts", "promotion", "compute", "chronos2", "seed"}


class ComparisonRequest(BaseModel):
    """Two checkpoints, and the windows and settings to compare them with.

    Attributes:
        data: digests of what is read beside the arrays, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path
    kind: Kind
    challenger: str
    champion: str
    arrays: Path
    settings: Settings
    data: dict[str, str] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """A digest of everything that the result depends on."""
        values = self.model_dump(mode="json", exclude={"home", "arrays", "settings", "data"})
        used = self.settings.model_dump(mode="json", include=SECTIONS)
        # The ranges are those of the vintage. Results that were kept before there were vintages stay valid.
        for key in ("vintage", "vintage_train_years"):
            del used["windows"][key]
        read = {**self.data, "settings": used, "arrays": self.arrays.name}
        return digest_of({**values, **read, "rules": COMPARISON_VERSION})


@dataclass(frozen=True)
class ComparisonOutcome:
    """The result of a champion/challenger comparison.

    Attributes:
        skill: none if no origin was left to compare on.
        origins: the number of origins of the validation range.
        in_sample: how many of them were left out, because one side was trained on bars up to `trained_until`.
        trained_until: the last day that either side was trained on; none: unknown for both.
        trained_side: the side that was trained up to that day.
        unknown: the sides for which that day is unknown.
    """

    skill: SkillComparison | None
    origins: int
    in_sample: int = 0
    trained_until: str | None = None
    trained_side: str | None = None
    unknown: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ComparisonOutcome:
        """The outcome of `dataclasses.asdict`, read from JSON."""
        skill = values["skill"]
        return cls(
            **{**values, "skill": SkillComparison(**skill) if skill else None, "unknown": tuple(values["unknown"])}
        )

    def to_dict(self) -> dict[str, Any]:
        """The evidence for the promotion ledger."""
        numbers: dict[str, Any] = {} if self.skill is None else self.skill.to_dict()
        return numbers | ({"in_sample": float(self.in_sample)} if self.in_sample else {})

    @property
    def shows_better(self) -> bool:
        return self.skill is not None and self.skill.shows_better

    @property
    def shows_no_worse(self) -> bool:
        return self.skill is not None and self.skill.shows_no_worse

    @property
    def text(self) -> str:
        """The result as one sentence."""
        return f"{self._skill_text()}{self._unknown_text()}"

    def _skill_text(self) -> str:
        has_interval = self.skill is not None and self.skill.low is not None
        reason = f"up to {self.trained_until}, which {self.trained_side} was trained on (in-sample)"
        if self.in_sample and not has_interval:
            return (
                f"undecided: {self.in_sample} of {self.origins} origins are {reason}; an interval needs at least "
                f"{FEWEST_ORIGINS} later ones: move windows.validation beyond that day, or set promotion.rule = "
                '"always" to use the newest checkpoint without a comparison'
            )
        text = "" if self.skill is None else self.skill.text
        return f"{text}; {self.in_sample} origins {reason}, were left out" if self.in_sample else text

    def _unknown_text(self) -> str:
        if not self.unknown:
            return ""
        sides = " and ".join(self.unknown)
        return f"; the last training day of {sides} is unknown: these origins may be in-sample"


def run_comparison(
    challenger: Checkpoint,
    champion: Checkpoint,
    store: CheckpointStore,
    settings: Settings,
    arrays: Path,
    context: dg.AssetExecutionContext | None = None,
) -> ComparisonOutcome:
    """Compare two checkpoints in a child process. The result of an equal comparison is read from its file.

    Args:
        arrays: the folder of training arrays.
        context: the run that shows the output of the process; none outside Dagster.
    """
    request = comparison_request(challenger, champion, store, settings, arrays)
    folder = comparisons_folder(store.home, challenger.kind)
    result = folder / f"{request.name}.json"
    _adopt_earlier_result(store.home.checkpoints / challenger.kind / "contests" / result.name, result)
    kept = read_kept_json(result, store.home.root)
    if kept is None:
        with scratch_folder(store.home.scratch / "comparisons") as work:
            # The process opens no warehouse, whose URI may hold a password.
            exported = export_events(settings, work).model_copy(update={"home": store.home.root, "warehouse": None})
            file = work / "request.json"
            file.write_text(request.model_copy(update={"settings": exported}).model_dump_json())
            command = [sys.executable, "-m", "assets.training.model_selection.comparison", str(file), str(result)]
            run_pipes_child(command, challenger.kind, context=context)
        kept = json.loads(result.read_text())
    return ComparisonOutcome.from_dict(kept)


def comparison_request(
    challenger: Checkpoint, champion: Checkpoint, store: CheckpointStore, settings: Settings, arrays: Path
) -> ComparisonRequest:
    """The comparison of two checkpoints, with the known events up to the cutoff and the groups as they are now."""
    data: dict[str, str] = {}
    if challenger.kind == "chronos2_model":
        groups = read_groups(settings)
        data = events_recipe(settings) | ({"groups": digest_of(groups)} if groups else {})
    return ComparisonRequest(
        home=store.home.root,
        kind=challenger.kind,
        challenger=challenger.digest,
        champion=champion.digest,
        arrays=arrays,
        settings=settings,
        data=data,
    )


def comparisons_folder(home: Home, kind: Kind) -> Path:
    """Where the results of comparisons of a kind are kept."""
    return home.checkpoints / kind / "comparisons"


def _adopt_earlier_result(earlier: Path, result: Path) -> None:
    """Take over a result that an earlier version kept in another folder, with other keys."""
    if result.is_file() or not earlier.is_file():
        return
    renamed = {"found": "skill", "seen_until": "trained_until", "learner": "trained_side"}
    values = {renamed.get(key, key): value for key, value in json.loads(earlier.read_text()).items()}
    publish_kept_json(result, values)


def compare_checkpoints(request: ComparisonRequest) -> ComparisonOutcome:
    """Forecast the same origins of the validation range with both checkpoints, and compare the CRPS."""
    from assets.training.data.dataset import WindowArrays
    from assets.training.model_selection.candidates import CandidateStore, candidate_scores
    from assets.training.model_selection.scoring import compare_skill, validation_tasks

    settings = request.settings
    home, rule = Home(request.home), settings.promotion
    store = CheckpointStore(home)
    arrays = WindowArrays(request.arrays)
    sides = [store.load(request.kind, digest) for digest in (request.challenger, request.champion)]
    trained_until, trained_side, unknown = last_training_day(sides)
    ours, theirs = (
        candidate_scores(CandidateStore(home, side), settings, arrays, rule.origins, rule.paths, trained_until)
        for side in sides
    )
    origins = len({task.origin for task in validation_tasks(arrays, rule.origins)})
    return ComparisonOutcome(
        skill=None if ours.empty else compare_skill(ours, theirs, settings.seed),
        origins=origins,
        in_sample=origins - ours["origin"].nunique(),
        trained_until=str(trained_until) if trained_until else None,
        trained_side=trained_side,
        unknown=unknown,
    )


def last_training_day(sides: Sequence[Checkpoint]) -> tuple[date | None, str | None, tuple[str, ...]]:
    """The last day that either side was trained on, that side, and the sides for which it is unknown."""
    names = dict(zip(("the challenger", "the champion"), sides, strict=True))
    known = {name: day for name, side in names.items() if (day := side.trained_until)}
    unknown = tuple(name for name, side in names.items() if side.trained_until is None)
    latest = max(known, key=lambda name: known[name], default=None)
    return (known[latest] if latest else None), latest, unknown


def main(argv: Sequence[str]) -> int:
    """Run the comparison of a request file and write its result; 1 with the error reported on failure."""

    def work() -> None:
        outcome = compare_checkpoints(ComparisonRequest.model_validate_json(Path(argv[0]).read_text()))
        publish_kept_json(Path(argv[1]), asdict(outcome))

    return run_and_report(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
