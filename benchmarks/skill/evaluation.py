"""What is reported of the scores: skill and coverage by model, step, year and group of symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.skill.models import REFERENCE
from benchmarks.skill.sample import Sample
from benchmarks.skill.scores import BANDS, Scores, Skill, coverage, skill, thirds
from resources.derived_models import is_recalibrated, recalibrated

# The steps of the columns of the tables; none: all.
STEPS: Mapping[str, tuple[int, ...]] = {"all steps": (), "step 1": (1,), "step 10": (10,)}
THIRDS = ("low", "middle", "high")


@dataclass(frozen=True)
class Evaluation:
    """The scores of some models on the same tasks.

    Attributes:
        name: of the sample, as in JSON.
        title: in words.
    """

    name: str
    title: str
    sample: Sample
    scores: Mapping[str, Scores]

    @property
    def models(self) -> list[str]:
        """The models but for the recalibrated copies."""
        return [model for model in self.scores if not is_recalibrated(model)]

    @cached_property
    def years(self) -> list[int]:
        """The years of the scored origins."""
        return [int(year) for year in np.unique(self.sample.years[self.sample.scored])]

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """The thirds of the symbols of each origin, by what is known at the origin: (tasks,) bool by name."""
        found: dict[str, np.ndarray] = {}
        for name, values in (("volatility", self.sample.volatility), ("dollar volume", self.sample.turnover)):
            group = thirds(values, self.sample)
            found |= {f"{name}, {third}": group == number for number, third in enumerate(THIRDS)}
        return found

    @cached_property
    def skills(self) -> dict[str, dict[str, Skill]]:
        """Skill by model and column of `STEPS`."""
        return {
            model: {name: self._skill(model, steps=steps) for name, steps in STEPS.items()} for model in self.scores
        }

    @cached_property
    def by_year(self) -> dict[str, dict[int, Skill]]:
        """Skill over all steps by model and year."""
        years = self.sample.years
        return {model: {year: self._skill(model, years == year) for year in self.years} for model in self.scores}

    @cached_property
    def by_group(self) -> dict[str, dict[str, Skill]]:
        """Skill over all steps by model and group of symbols."""
        return {
            model: {name: self._skill(model, wanted) for name, wanted in self.groups.items()} for model in self.scores
        }

    @cached_property
    def coverage(self) -> dict[str, dict[str, float]]:
        """Coverage of each band by model."""
        return {
            model: {f"{band:.0%}": coverage(own, self.sample, band) for band in BANDS}
            for model, own in self.scores.items()
        }

    @cached_property
    def coverage_by_year(self) -> dict[str, dict[int, float]]:
        """Coverage of the widest band by model and year."""
        years = self.sample.years
        return {
            model: {year: coverage(own, self.sample, BANDS[-1], years == year) for year in self.years}
            for model, own in self.scores.items()
        }

    def best(self) -> str:
        """The model with the highest skill over all steps, recalibrated copies included."""
        return max(
            (model for model in self.scores if model != REFERENCE),
            key=lambda model: self.skills[model]["all steps"].skill,
            default=REFERENCE,
        )

    def copy_of(self, model: str) -> str | None:
        """The recalibrated copy of a model; None: there is none."""
        name = recalibrated(model)
        return name if name in self.scores else None

    def to_dict(self) -> dict[str, object]:
        """Everything as JSON values."""
        sample = self.sample
        return {
            "symbols": list(sample.symbols),
            "scored_origins": int(len(sample.origins) - sample.scored_from),
            "warm_up_origins": sample.scored_from,
            "first_origin": str(sample.origins[sample.scored_from].astype("datetime64[D]")),
            "last_origin": str(sample.origins[-1].astype("datetime64[D]")),
            "forecasts": int(sample.scored.sum()),
            "models": {model: self._model(model) for model in self.scores},
        }

    def _model(self, model: str) -> dict[str, object]:
        own = self.scores[model]
        return {
            "crps_percent": round(float(own.crps[self.sample.scored].mean(dtype=np.float64)), 6),
            "skill": {name: one.to_dict() for name, one in self.skills[model].items()},
            "skill_by_year": {year: one.to_dict() for year, one in self.by_year[model].items()},
            "skill_by_group": {name: one.to_dict() for name, one in self.by_group[model].items()},
            "coverage": {name: round(value, 4) for name, value in self.coverage[model].items()},
            "coverage_by_year": {year: round(value, 4) for year, value in self.coverage_by_year[model].items()},
            "observed_frequency": [round(float(value), 4) for value in own.below],
        }

    def _skill(self, model: str, wanted: np.ndarray | None = None, steps: tuple[int, ...] = ()) -> Skill:
        return skill(self.scores[model], self.scores[REFERENCE], self.sample, wanted, steps)
