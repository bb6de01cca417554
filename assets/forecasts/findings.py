"""What a run's forecasts are like: the five things that must hold of them, in words. Not here: Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from assets.forecasting.forecaster import Task
from assets.forecasts import acceptance as checks
from assets.forecasts.generate import ForecastRoom, Made, target_stamps
from assets.forecasts.lookahead_check import changed_by_the_future
from assets.forecasts.path_files import paths_file

Check = Literal["complete", "finite_and_ordered", "physically_possible", "no_lookahead", "coverage_is_nominal"]
NAMED = 3


@dataclass(frozen=True)
class Finding:
    """The outcome of one check over all forecasters of an asset."""

    check: Check
    problems: tuple[str, ...]
    fine: str

    @property
    def passed(self) -> bool:
        return not self.problems

    @property
    def words(self) -> str:
        return "; ".join(self.problems) or self.fine


def findings(
    room: ForecastRoom, made: Sequence[Made], tasks: Sequence[Task], calibrated: dict[str, pd.DataFrame]
) -> list[Finding]:
    """Look at everything that lies between the run's first and last origin."""
    origins = _origins(tasks)
    runs = [checks.Run(one.forecaster, origins) for one in made]
    look_up = "see forecast_quantiles for them; forecasts are never rewritten, so name the cause before a new recipe"
    disordered = {run.forecaster.model: checks.disordered(room.warehouse, run) for run in runs}
    impossible = {run.forecaster.model: _impossible(room, run) for run in runs}
    incomplete = {run.forecaster.model: checks.incomplete(room.warehouse, run) for run in runs}
    off = [f"{model}: {words}" for model, frame in calibrated.items() for words in checks.off_bands(frame)]
    return [
        Finding(
            "complete",
            _named(incomplete, "forecasts lack quantiles or have them twice", look_up),
            "every forecast has each of its quantiles once",
        ),
        Finding(
            "finite_and_ordered",
            _named(disordered, "quantiles are not finite or fall as their level rises", look_up),
            "all quantiles are finite and rise with their level",
        ),
        Finding(
            "physically_possible",
            _named(impossible, "values that no market can print", look_up),
            "prices are positive, low ≤ open, close ≤ high, volume is not negative, in quantiles and paths",
        ),
        blind_to_the_future(room, made, tasks),
        Finding("coverage_is_nominal", tuple(off), "no band covers far from its share"),
    ]


def blind_to_the_future(room: ForecastRoom, made: Sequence[Made], tasks: Sequence[Task]) -> Finding:
    """Forecast one origin again, as if every bar after it had been another: the answer must not change in any bit.

    Only for forecasters that made something in this run: older forecasts were looked at when they were made.
    """
    # The newest origin with something after it; the newest of all only loses what is not there.
    with_future = [task for task in tasks if task.index + 1 < len(task.history)] or list(tasks)
    origin = max(task.origin for task in with_future)
    chosen = [task for task in tasks if task.origin == origin]
    fresh = [one for one in made if one.made]
    targets = target_stamps(chosen, room.calendar, room.settings.windows.predict_window)
    problems = []
    for one in fresh:
        changed = changed_by_the_future(one.forecaster.load(), chosen, targets)
        if changed:
            names = ", ".join(task.symbol for task in changed)
            problems.append(
                f"{one.forecaster.model} read bars after its origin {origin}: {names}. Its scores mean nothing until "
                "that is mended"
            )
    fine = (
        f"{len(chosen)} forecasts from {origin} are the same to the last bit with every later bar changed"
        if fresh
        else "nothing new was made; what is there was checked when it was made"
    )
    return Finding("no_lookahead", tuple(problems), fine)


def _impossible(room: ForecastRoom, run: checks.Run) -> pd.DataFrame:
    found = checks.impossible(room.warehouse, run)
    files = [
        file
        for origin in run.origins
        if (file := paths_file(room.home, run.forecaster.model, run.forecaster.checkpoint, origin)).is_file()
    ]
    return pd.concat([found, checks.impossible_paths(room.warehouse, files)]) if files else found


def _named(found: dict[str, pd.DataFrame], what: str, advice: str) -> tuple[str, ...]:
    return tuple(
        f"{model}: {len(frame)} {what}, first {frame.head(NAMED).to_dict('records')}; {advice}"
        for model, frame in found.items()
        if len(frame)
    )


def _origins(tasks: Sequence[Task]) -> list[np.datetime64]:
    return sorted({task.origin for task in tasks})
