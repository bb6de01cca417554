"""Derived models: forecasters whose forecasts are computed from stored forecasts of other models.

They are `ForecastModel`s like any other. `Predict` reads the stored quantiles of the base models for its tasks, and
what was learnt from earlier forecasts of these models and their outcomes (panel.Learn).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from assets.forecasting.calibration.anchoring import Anchoring, AnchoringWeights
from assets.forecasting.calibration.base_keys import Base
from assets.forecasting.calibration.combination import HALF_LIFE, STRENGTH, Combination, Weighting
from assets.forecasting.calibration.kept_states import KeptStates, state_name
from assets.forecasting.calibration.outcomes import same_closes
from assets.forecasting.calibration.outdated import DerivedFrom, OutdatedForecasts
from assets.forecasting.calibration.panel import Derive, Learn
from assets.forecasting.calibration.recalibration import RECENT, Recalibration, RecalibrationLaw
from assets.forecasting.calibration.stored import StoredForecasts
from assets.forecasting.forecaster import (
    ForecastModel,
    ForecastTask,
    Prediction,
    checkpoint_name,
    market_recipe,
)
from assets.market.history import CLOSE, BarHistory
from resources.derived_models import ANCHORED, COMBINATIONS, is_recalibrated, recalibrated
from resources.settings import Settings

VOLATILITY = "volatility"
BATCH_SIZE = 4_000
VERSION = 1


class SharedReads:
    """What the derived models of an asset read together."""

    def __init__(self, settings: Settings) -> None:
        self.forecasts = StoredForecasts(settings)
        self.outdated = OutdatedForecasts(self.forecasts)

    def declare(self, model: DerivedFrom) -> None:
        """Name one of the models, and what it reads."""
        self.forecasts.declare(model.model, model.checkpoint, model.bases)
        self.outdated.declare(model)


def derived_names(settings: Settings, available: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The calibrated models, by name, with the models that each is derived from.

    Args:
        available: the models that can forecast.
    """
    if not settings.calibration.enabled:
        return {}
    named = [name for name in settings.calibration.anchored if name in available and VOLATILITY in available]
    anchored = {f"{name}{ANCHORED}": (name, VOLATILITY) for name in named}
    return anchored | {recalibrated(name): (name,) for name in (*available, *anchored)}


def calibrated_models(settings: Settings, bases: Sequence[ForecastModel]) -> list[ForecastModel]:
    """The calibrated models, each in the vintages of its base; those that are derived from others come after them.

    Args:
        bases: all models that can forecast, and all vintages of each, oldest first.
    """
    versions = _by_model(bases)
    stored, found = SharedReads(settings), list[ForecastModel]()
    for name, parts in derived_names(settings, list(versions)).items():
        for own in versions[parts[0]]:
            used = [_until(versions[part], own.vintage) for part in parts]
            if all(used):
                found.append(_calibrated(name, used, settings, stored))
        versions[name] = [one for one in found if one.model == name]
    return found


def combined_names(settings: Settings, available: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The combinations, by name, with their members: all models but recalibrated ones.

    Args:
        available: the models that can forecast, calibrated ones among them.
    """
    members = tuple(name for name in available if not is_recalibrated(name))
    return dict.fromkeys(COMBINATIONS, members) if settings.combined and len(members) > 1 else {}


def combined_models(settings: Settings, bases: Sequence[ForecastModel]) -> list[ForecastModel]:
    """The combinations, in all vintages of their members.

    Args:
        bases: all models that can forecast, calibrated ones among them, and all vintages of each, oldest first.
    """
    versions = _by_model(bases)
    vintages: list[date | None] = [*sorted({one.vintage for one in bases if one.vintage is not None})] or [None]
    stored, found = SharedReads(settings), list[ForecastModel]()
    for name, members in combined_names(settings, list(versions)).items():
        for vintage in vintages:
            used = [own for member in members if (own := _until(versions[member], vintage))]
            found.append(_combined(name, vintage, used, settings, stored))
    return found


def _combined(
    name: str,
    vintage: date | None,
    members: Sequence[Sequence[ForecastModel]],
    settings: Settings,
    stored: SharedReads,
) -> ForecastModel:
    weighting: Weighting = "crps" if name == "combination_crps" else "equal"
    learn, parameters = Combination(settings.forecasts.levels, weighting), dict[str, Any]()
    if weighting == "crps":
        parameters = {"strength": STRENGTH, "half_life": int(HALF_LIFE.astype(int))}
    derived = derived_model(name, members, learn, parameters, None, settings, stored)
    licences = dict.fromkeys(one[-1].licence for one in members)
    return replace(
        derived,
        family="combination",
        # What is derived from all is under the licences of all.
        licence=" AND ".join(sorted(licences)),
        vintage=vintage,
    )


def _by_model(models: Sequence[ForecastModel]) -> dict[str, list[ForecastModel]]:
    """The vintages of each model, in their order."""
    found: dict[str, list[ForecastModel]] = {}
    for one in models:
        found.setdefault(one.model, []).append(one)
    return found


def _until(versions: Sequence[ForecastModel], vintage: date | None) -> list[ForecastModel]:
    """The vintages of a model up to a date; all where there are none."""
    return [one for one in versions if vintage is None or one.vintage is None or one.vintage <= vintage]


def _calibrated(
    name: str, bases: Sequence[Sequence[ForecastModel]], settings: Settings, stored: SharedReads
) -> ForecastModel:
    levels, steps = settings.forecasts.levels, settings.windows.predict_window
    half_life, weights = settings.calibration.half_life, bases[0][-1].weights
    parameters: dict[str, Any] = {"half_life": half_life}
    if len(bases) > 1:
        return derived_model(name, bases, Anchoring(levels, steps, half_life), parameters, weights, settings, stored)
    parameters["recent"] = RECENT
    return derived_model(name, bases, Recalibration(levels, steps, half_life), parameters, weights, settings, stored)


def derived_model(
    name: str,
    bases: Sequence[Sequence[ForecastModel]],
    learn: Learn,
    parameters: Mapping[str, Any],
    weights: str | None,
    settings: Settings,
    stored: SharedReads,
) -> ForecastModel:
    """A model whose forecasts are derived from those of others.

    Args:
        bases: the models, each as its vintages up to the one that is derived from, which is the last; the first model
            states family and licence.
        learn: what is learnt from panels of `bases`.
        parameters: of `learn`, for the recipe.
        weights: the digest that the forecasts are stored under.
    """
    newest = [versions[-1] for versions in bases]
    recipe = {
        "model": name,
        "version": VERSION,
        "derived_from": {one.model: one.checkpoint for one in newest},
        "predict_window": settings.windows.predict_window,
        "levels": settings.forecasts.levels,
        **parameters,
        **market_recipe(settings.market),
    }
    read = [Base(one.model, tuple(version.checkpoint for version in versions))
            for one, versions in zip(newest, bases, strict=True)]  # fmt: skip
    checkpoint, learns = checkpoint_name(recipe, weights), not isinstance(learn, Combination) or learn.learns
    derived = DerivedFrom(name, checkpoint, tuple(read), learns)
    stored.declare(derived)
    cutoffs = [one.trained_until for one in newest if one.trained_until is not None]
    return ForecastModel(
        model=name,
        checkpoint=checkpoint,
        weights=weights,
        recipe=recipe,
        trained_until=max(cutoffs, default=None),
        load=cache(lambda: DerivedPredict(read, learn, stored.forecasts, learns, state_name(name, checkpoint))),
        batch_size=BATCH_SIZE,
        family=newest[0].family,
        licence=newest[0].licence,
        vintage=newest[0].vintage,
        data=lambda last: [stored.forecasts.digest(read, last)],
        outdated=lambda: stored.outdated.of(derived),
    )


class DerivedPredict:
    """A `Predict` from stored forecasts.

    Args:
        name: under which its learnt state is kept.
    """

    def __init__(self, bases: Sequence[Base], learn: Learn, stored: StoredForecasts, learns: bool, name: str) -> None:
        self._bases, self._learn, self._stored, self._learns = bases, learn, stored, learns
        self._earlier, self._states = stored.earlier(bases), KeptStates(stored, bases, learn, name)
        key = name, tuple(bases)
        if key not in stored.known.learnt:
            stored.known.learnt[key] = self._from({})
        self.learnt = stored.known.learnt[key]

    def __call__(self, tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prediction:
        """The derived quantiles of the close."""
        origins = np.array([task.origin for task in tasks], dtype="datetime64[s]")
        own = self._earlier.of_tasks(tasks)
        derived = self._derive(tasks)(origins, own)
        closes = np.array([task.history.quoted[task.index, CLOSE] for task in tasks])
        missing = np.asarray(~np.isfinite(derived).all(axis=(1, 2)))
        values = np.exp(np.where(missing[:, None, None], 0.0, derived)) * closes[:, None, None]
        reasons = self._reasons(tasks, own, missing)
        inherited = frozenset(row for row, (_, is_recorded) in reasons.items() if is_recorded)
        failures = {row: reason for row, (reason, _) in reasons.items()}
        behind = self._earlier.origins_before(origins) if self._learns else None
        return Prediction(
            fields=("close",),
            quantiles=values[:, :, None],
            corrected=np.zeros(len(tasks)),
            failures=failures,
            inherited=inherited,
            learnt_from=behind,
        )

    def learnt_at(self, origin: np.datetime64) -> pd.DataFrame:
        """What was learnt up to an origin, one row per step: columns step, outcomes, and those of the rule."""
        return learnt_frame(self.learnt, origin)

    def _derive(self, tasks: Sequence[ForecastTask]) -> Derive:
        """What was learnt from the bars of the home; where tasks have other bars, from those instead."""
        histories = self._stored.histories
        given = {task.symbol: task.history for task in tasks if task.symbol in histories}
        others = {name: one for name, one in given.items() if not same_closes(one, histories[name])}
        return self._from(others) if others else self.learnt

    def _from(self, others: Mapping[str, BarHistory]) -> Derive:
        if not self._learns:
            return self._learn(())
        return self._states.learn({**self._stored.histories, **others}, keep=not others)

    def _reasons(
        self, tasks: Sequence[ForecastTask], own: np.ndarray, missing: np.ndarray
    ) -> dict[int, tuple[str, bool]]:
        found: dict[int, tuple[str, bool]] = {}
        for base, quantiles in zip(self._bases, own, strict=True):
            lacking = missing & ~np.isfinite(quantiles).all(axis=(1, 2))
            rows = [int(row) for row in np.flatnonzero(lacking) if int(row) not in found]
            if rows:
                found |= dict(zip(rows, self._stored.reasons(base, [tasks[row] for row in rows]), strict=True))
        unexplained = [int(row) for row in np.flatnonzero(missing) if int(row) not in found]
        return found | dict.fromkeys(unexplained, ("its quantiles are not finite", False))


def learnt_frame(learnt: Derive, origin: np.datetime64) -> pd.DataFrame:
    """The outcomes that a rule was learnt from up to an origin by step, and of an anchored model λ and w."""
    if not isinstance(learnt, AnchoringWeights | RecalibrationLaw):
        return pd.DataFrame({"step": []})
    at = np.array([origin], dtype="datetime64[s]")
    outcomes = learnt.counts.at(at, np.zeros(1))[0, :, 0].astype(int)
    frame = pd.DataFrame({"step": np.arange(1, len(outcomes) + 1), "outcomes": outcomes})
    if isinstance(learnt, AnchoringWeights):
        weights = learnt.weights.at(at, np.zeros(2))[0]
        frame = frame.assign(λ=weights[:, 0], w=weights[:, 1])
    return frame
