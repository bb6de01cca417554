"""Builds the checkpoint of the volatility model, fitted to the training range or of given weights, and scores it.

The fit is a regression in closed form: no process of its own, no seed, no loss curves. Its place is taken by the skill
on the validation range, by step. Not here: the model (assets.forecasting.volatility).
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.forecaster import Predict
from assets.forecasting.volatility.forecaster import VolatilityPredictor
from assets.forecasting.volatility.panel import Panel, digest_of_bars, panel_up_to
from assets.forecasting.volatility.regression import (
    LEAST_BARS,
    MOST_BARS,
    MOST_CELLS,
    RIDGE,
    TooFewOriginsError,
    VolatilityWeights,
    fit,
    input_count,
)
from assets.market.history import BarHistory
from assets.training.build_checkpoint import VINTAGE
from assets.training.checkpoint_request import starting_weights
from assets.training.fit.base_weights import SECTIONS, BaseWeights
from assets.training.fit.lr_schedule import evenly_spaced
from assets.training.model_card import render_model_card
from assets.training.model_selection.comparison import ComparisonOutcome, last_training_day
from assets.training.model_selection.scoring import (
    NothingScoredError,
    SkillComparison,
    compare_skill,
    score_forecasts,
    tasks_at_origins,
)
from assets.training.plots import skill_plot
from resources.checkpoints import FROM_SCRATCH, PICTURES, README, Checkpoint, CheckpointStore, Kind
from resources.publish import digest_of, publish_bytes
from resources.settings import Settings

logger = logging.getLogger("candlecast.training")
KIND: Kind = "volatility_model"
REFERENCE = "random_walk_ewma"
RECIPE_VERSION = 1
FILES = ("config.json", "model.safetensors")
# Validation origins that are scored at most, evenly spaced, and tasks per call.
MOST_ORIGINS, BATCH_SIZE = 60, 5_000
Histories = Mapping[str, BarHistory]


def build_volatility(
    settings: Settings, histories: Histories, store: CheckpointStore, base: BaseWeights | None = None
) -> Checkpoint:
    """The volatility model of some settings: the existing checkpoint, or a new one.

    Where there is too little history to fit, its weights are zero, which is the EWMA volatility with a normal law.

    Args:
        settings: those of the vintage, if there are vintages.
        histories: of the market; only bars up to the end of the training range are read.
        base: None: that of the settings.

    Raises:
        CandlecastError: there is no base of that name, or its weights are of another version.
    """
    base = base or starting_weights(KIND, settings)[0]
    recipe: dict[str, Any] = {"version": RECIPE_VERSION, "kind": KIND, "base": base.digest}
    if store.vintage is not None:
        base.require_before(store.vintage, SECTIONS[KIND])
        recipe["vintage"] = store.vintage.isoformat()
    if base.from_scratch:
        return _fitted(settings, histories, store, recipe)
    existing = store.find(KIND, recipe)
    if existing is not None:
        return existing
    source = Path(base.source or "")
    weights = VolatilityWeights.load(source)
    card = _card(settings, base, weights, base.cutoff, base.trained_until)
    return store.publish(KIND, recipe, lambda folder: _write(folder, source, card, store.vintage), card)


def _fitted(settings: Settings, histories: Histories, store: CheckpointStore, recipe: dict[str, Any]) -> Checkpoint:
    windows = settings.windows
    panel = _panel(histories, windows.train[1])
    data = digest_of(
        [list(panel.symbols), digest_of_bars(_until(histories, windows.train[1]).values(), np.datetime64("9999"))]
    )
    recipe |= {
        "data": data,
        "train": [str(day) for day in windows.train],
        "steps": windows.predict_window,
        "ridge": RIDGE,
        "least_bars": LEAST_BARS,
    }
    existing = store.find(KIND, recipe)
    if existing is not None:
        return existing
    note = None
    first, last = (np.datetime64(day) for day in windows.train)
    try:
        weights = fit(panel, first, last + np.timedelta64(1, "D"), windows.predict_window)
    except TooFewOriginsError as error:
        note = f"Not fitted: {error}. The weights are zero: EWMA volatility with a normal law."
        weights = VolatilityWeights.of_random_walk(windows.predict_window, input_count())
    card = _card(settings, BaseWeights(None, "none"), weights, windows.cutoff, windows.train[1], note)
    card |= {
        "data_hash": data,
        "training": None,
        "trained_on": {"symbols": list(panel.symbols), "bars": len(panel.stamps)},
    }
    return store.publish(KIND, recipe, lambda folder: _write(folder, weights, card, store.vintage), card)


def _panel(histories: Histories, last: date) -> Panel:
    """The bars up to a session, the newest that memory allows."""
    used = _until(histories, last)
    return panel_up_to([used[name] for name in sorted(used)], bars=min(MOST_BARS, MOST_CELLS // max(len(used), 1)))


def _until(histories: Histories, last: date) -> dict[str, BarHistory]:
    cut = {name: history.until(last) for name, history in sorted(histories.items())}
    return {name: history for name, history in cut.items() if len(history)}


def _write(folder: Path, weights: VolatilityWeights | Path, card: Mapping[str, Any], vintage: date | None) -> None:
    if isinstance(weights, Path):
        for name in FILES:
            shutil.copy2(weights / name, folder / name)
    else:
        weights.save(folder)
    if vintage is not None:
        # Part of the digest, as for the other models: equal weights of two vintages keep a card each.
        publish_bytes(folder / VINTAGE, json.dumps({"vintage": vintage.isoformat()}).encode())
    publish_bytes(folder / README, render_model_card(card).encode())


def _card(
    settings: Settings,
    base: BaseWeights,
    weights: VolatilityWeights,
    cutoff: date | None,
    trained_until: date | None,
    note: str | None = None,
) -> dict[str, Any]:
    return {
        "name": "candlecast volatility model",
        "licence": "MIT" if base.from_scratch else base.licence,
        "base": {
            "weights": base.note or base.source or FROM_SCRATCH,
            "revision": base.revision,
            "digest": base.digest,
            "licence": base.licence,
            "cutoff": base.cutoff.isoformat() if base.cutoff else None,
        },
        "tokenizer": None,
        "cutoff": cutoff.isoformat() if cutoff else None,
        "trained_until": trained_until.isoformat() if trained_until else None,
        "training": None,
        "data_hash": None,
        "normalisation": {},
        "settings": settings.volatility.model_dump(mode="json"),
        "seed": settings.seed,
        "parameters": int(weights.weights.size + weights.shape.size),
        "curves": {},
        "scores": {},
        "note": note,
        "versions": {"numpy": version("numpy")},
        "device": "cpu",
    }


def with_validation_scores(
    checkpoint: Checkpoint, settings: Settings, histories: Histories, store: CheckpointStore
) -> Checkpoint:
    """The checkpoint, whose card holds its skill on the validation range: over all steps and by step, with intervals.

    The reference is a random walk with EWMA volatility. Without an origin to score there are no scores.
    """
    read = digest_of(
        [
            digest_of_bars(_until(histories, settings.windows.cutoff).values(), np.datetime64("9999")),
            settings.windows.model_dump(mode="json"),
            settings.forecasts.levels,
            settings.seed,
            RECIPE_VERSION,
        ]
    )
    if checkpoint.card.get("scored_on") == read:
        return checkpoint
    ours = validation_scores(_predict_of(checkpoint, settings, histories), settings, histories)
    theirs = validation_scores(_reference(settings), settings, histories)
    scores: dict[str, Any] = {}
    if ours is not None and theirs is not None:
        overall = compare_skill(ours, theirs, settings.seed)
        steps = [
            compare_skill(ours[ours["step"] == step], theirs[theirs["step"] == step], settings.seed)
            for step in sorted(ours["step"].unique())
        ]
        named: dict[str, float | None] = {"crps": overall.ours, "baseline_crps": overall.theirs, "skill": overall.skill}
        named |= {"skill_low": overall.low, "skill_high": overall.high}
        scores = {name: value for name, value in named.items() if value is not None}
        scores |= {"baseline": REFERENCE, "steps": [one.to_dict() for one in steps], "text": overall.text}
        publish_bytes(checkpoint.folder / PICTURES[0], skill_plot(steps))
    updated = store.update_card(checkpoint, {"scores": scores, "scored_on": read})
    publish_bytes(updated.folder / README, render_model_card(updated.card).encode())
    return updated


def compare_volatility(
    challenger: Checkpoint, champion: Checkpoint, settings: Settings, histories: Histories
) -> ComparisonOutcome:
    """The CRPS of two checkpoints on validation origins that neither was trained on."""
    until, side, unknown = last_training_day([challenger, champion])
    origins = len(_validation_origins(settings, histories))
    ours, theirs = (
        validation_scores(_predict_of(one, settings, histories), settings, histories, until)
        for one in (challenger, champion)
    )
    used = 0 if ours is None else int(ours["origin"].nunique())
    skill: SkillComparison | None = None
    if ours is not None and theirs is not None:
        skill = compare_skill(ours, theirs, settings.seed)
    return ComparisonOutcome(skill, origins, origins - used, str(until) if until else None, side, unknown)


def validation_scores(
    predict: Predict, settings: Settings, histories: Histories, after: date | None = None
) -> pd.DataFrame | None:
    """`SCORE_COLUMNS` of the forecasts of all symbols at origins of the validation range.

    None: there is no origin, or no forecast can be made; the log says why.

    Args:
        after: only origins after this day.
    """
    windows = settings.windows
    used = _until(histories, windows.cutoff)
    origins = _validation_origins(settings, histories)
    if after is not None:
        origins = origins[origins.astype("datetime64[D]") > np.datetime64(after)]
    tasks = tasks_at_origins(used, list(origins), windows.lookback_window, windows.predict_window)
    if not tasks:
        return None
    try:
        return score_forecasts(predict, tasks, windows.predict_window, settings.forecasts.levels, BATCH_SIZE)
    except NothingScoredError as reason:
        logger.warning("no validation scores of the volatility model: %s", reason)
        return None


def _validation_origins(settings: Settings, histories: Histories) -> np.ndarray:
    first, last = settings.windows.validation
    stamps = [
        history.stamps[(history.days >= np.datetime64(first)) & (history.days <= np.datetime64(last))]
        for history in histories.values()
    ]
    known = np.unique(np.concatenate(stamps)) if stamps else np.empty(0, "datetime64[s]")
    usable = known[: max(len(known) - settings.windows.predict_window, 0)]
    return usable[evenly_spaced(len(usable), MOST_ORIGINS)] if len(usable) else usable


def _predict_of(checkpoint: Checkpoint, settings: Settings, histories: Histories) -> Predict:
    weights = VolatilityWeights.load(checkpoint.folder)
    return VolatilityPredictor(weights, _until(histories, settings.windows.cutoff), settings.forecasts.levels).predict


def _reference(settings: Settings) -> Predict:
    return next(one for one in baseline_forecasters(settings) if one.model == REFERENCE).load()
