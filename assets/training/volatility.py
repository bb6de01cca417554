"""Builds the checkpoint of the volatility model: fitted to the bars of the training range, or the packaged weights.

The fit is a regression in closed form: no process of its own, no seed, no curves. Not here: the model
(assets.forecasting.volatility).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from assets.forecasting.volatility.panel import Panel, panel_up_to
from assets.forecasting.volatility.regression import LEAST_BARS, RIDGE, VERSION, VolatilityWeights, fit
from assets.market.history import BarHistory
from assets.training.fit.base_weights import PACKAGED, WEIGHTS, resolve_base
from assets.training.model_card import render_model_card
from resources.checkpoints import FROM_SCRATCH, README, Checkpoint, CheckpointStore, Kind
from resources.publish import digest_of, publish_bytes
from resources.settings import DateRange, Settings

KIND: Kind = "volatility_model"
# The packaged weights are of daily bars.
PACKAGED_FREQUENCY = "1d"


def starting_base(settings: Settings) -> str:
    """The base that the settings name: "packaged", "none" or a folder."""
    named = settings.volatility.base
    if named != "auto":
        return named
    return PACKAGED if settings.market.frequency == PACKAGED_FREQUENCY else "none"


def build_volatility(
    settings: Settings, histories: Mapping[str, BarHistory], train: DateRange, store: CheckpointStore
) -> Checkpoint:
    """The volatility model of some settings: the existing checkpoint, or a new one.

    Args:
        histories: of the market; only bars up to the end of `train` are read.

    Raises:
        CandlecastError: there is no base of that name, or too little history to fit.
    """
    base = resolve_base(KIND, starting_base(settings), None, settings.root)
    if base.source is not None:
        recipe: dict[str, Any] = {"version": VERSION, "kind": KIND, "base": base.digest}
        existing = store.find(KIND, recipe)
        card = _card(settings, base.cutoff, base.trained_until, None, None, VolatilityWeights.load(Path(base.source)))
        card["base"] = {
            "weights": base.note or base.source,
            "revision": None,
            "digest": base.digest,
            "licence": base.licence,
            "cutoff": card["cutoff"],
        }
        return existing or store.publish(KIND, recipe, lambda folder: _copy(Path(base.source or ""), folder, card), card)
    last = np.datetime64(train[1], "s") + np.timedelta64(86_399, "s")
    panel = panel_up_to([histories[name] for name in sorted(histories)], last)
    data = _digest(panel)
    recipe = {
        "version": VERSION,
        "kind": KIND,
        "base": "none",
        "data": data,
        "train": [str(day) for day in train],
        "steps": settings.windows.predict_window,
        "ridge": RIDGE,
        "least_bars": LEAST_BARS,
    }
    existing = store.find(KIND, recipe)
    if existing is not None:
        return existing
    weights = fit(panel, np.datetime64(train[0]), np.datetime64(train[1]), settings.windows.predict_window)
    card = _card(settings, train[1], train[1], data, list(panel.symbols), weights)

    def write(folder: Path) -> None:
        weights.save(folder)
        publish_bytes(folder / README, render_model_card(card).encode())

    return store.publish(KIND, recipe, write, card)


def _copy(source: Path, folder: Path, card: Mapping[str, Any]) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy2(source / name, folder / name)
    publish_bytes(folder / README, render_model_card(card).encode())


def _card(
    settings: Settings,
    cutoff: date | None,
    trained_until: date | None,
    data: str | None,
    symbols: list[str] | None,
    weights: VolatilityWeights,
) -> dict[str, Any]:
    return {
        "name": "candlecast volatility model",
        "licence": "MIT",
        "base": {"weights": FROM_SCRATCH, "revision": None, "digest": "none", "licence": "MIT", "cutoff": None},
        "tokenizer": None,
        "cutoff": cutoff.isoformat() if cutoff else None,
        "trained_until": trained_until.isoformat() if trained_until else None,
        "training": None,
        "data_hash": data,
        "symbols": symbols,
        "normalisation": {},
        "settings": settings.volatility.model_dump(mode="json"),
        "seed": settings.seed,
        "parameters": int(weights.weights.size + weights.shape.size),
        "curves": {},
        "scores": {},
        "versions": {"numpy": version("numpy")},
        "device": "cpu",
    }


def _digest(panel: Panel) -> str:
    """A digest of all that the fit reads."""
    arrays = (panel.stamps.astype(np.int64), panel.returns, panel.gaps, panel.ranges, panel.volume)
    return digest_of([list(panel.symbols), *(array.tobytes().hex() for array in arrays)])
