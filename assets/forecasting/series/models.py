"""The models that forecast any series: Chronos-2 from a home, the package, a folder or the hub, and naive forecasts.

There is no fallback from one to another: a model that is not there is an error, and `SeriesModel.about` says which
weights were read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from assets.forecasting.chronos2.pipeline import load_pipeline
from assets.forecasting.plugin import ENTRY_POINTS
from assets.forecasting.series.about import ModelAbout
from assets.forecasting.series.chronos2 import Chronos2Model
from assets.forecasting.series.naive import naive_quantiles
from assets.forecasting.series.series import Series, SeriesError
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.hub_download import snapshot_folder
from resources.hub_models import hub_reference
from resources.progress import Progress, silent
from resources.settings import Settings
from resources.stored_weights import folder_weights, hub_weights

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

CHRONOS2, PACKAGED = "chronos2", "packaged"
NAIVE, SEASONAL_NAIVE = "naive", "seasonal_naive"
# Fitted to simulated series with covariates (assets.examples.fit).
PACKAGED_FOLDER = Path(__file__).parent / "weights"
# Series that are prepared at once: it bounds the memory.
SERIES_AT_ONCE = 512


class SeriesModel(Protocol):
    """A model that forecasts series. The forecast of a series depends on that series alone, bit for bit.

    Attributes:
        levels: the lowest and the highest quantile level that it can give.
        covariates: whether it reads any.
        steps: steps of one pass; None: any number.
        context: rows that it reads at most; None: all.
    """

    @property
    def about(self) -> ModelAbout: ...
    @property
    def levels(self) -> tuple[float, float]: ...
    @property
    def covariates(self) -> bool: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def context(self) -> int | None: ...

    def quantiles(self, series: Sequence[Series], levels: np.ndarray) -> list[np.ndarray | SeriesError]:
        """Of each series (targets, horizon, levels) float64, increasing with the level, or why there are none."""
        ...


def finite_quantiles(
    model: SeriesModel, series: Sequence[Series], levels: np.ndarray, progress: Progress = silent
) -> list[np.ndarray | SeriesError]:
    """Quantiles (targets, horizon, levels) of each series, or why the model cannot forecast it."""
    found: list[np.ndarray | SeriesError] = []
    for start in range(0, len(series), SERIES_AT_ONCE):
        found += model.quantiles(series[start : start + SERIES_AT_ONCE], levels)
        progress(len(found), len(series), str(series[len(found) - 1].id))
    return [
        one
        if isinstance(one, SeriesError) or np.isfinite(one).all()
        else SeriesError(
            f"{model.about.model} gives no finite forecast: its history is too short for it, or holds extreme values"
        )
        for one in found
    ]


@dataclass(frozen=True)
class NaiveModel:
    """The last value, or that of the last season, with normal errors."""

    about: ModelAbout
    season: int
    levels: tuple[float, float] = (1e-6, 1 - 1e-6)
    covariates: bool = False
    steps: int | None = None
    context: int | None = None

    def quantiles(self, series: Sequence[Series], levels: np.ndarray) -> list[np.ndarray | SeriesError]:
        return [
            np.stack([naive_quantiles(values, one.horizon, levels, self.season) for values in one.targets])
            for one in series
        ]


def naive_model(name: str, season: int) -> NaiveModel:
    """The naive or seasonal naive forecast."""
    return NaiveModel(ModelAbout(name, None if name == NAIVE else f"a season of {season} steps", licence="MIT"), season)


def load_series_model(
    name: str, settings: Settings | None, season: int, levels: Sequence[float], horizon: int
) -> SeriesModel:
    """The model of a name.

    Args:
        name: "packaged": the compact weights of the package; "chronos2": the checkpoint in use of the settings' home;
            "naive"; "seasonal_naive"; a folder; a forecaster of [models.NAME] or of an entry point; a hub id, with
            `@revision` if wanted: the commit that the settings' home has pinned.
        season: in steps, of "seasonal_naive".
        levels: the quantile levels that are to be forecast.
        horizon: the most steps that are to be forecast.

    Raises:
        CandlecastError: there is no such model, or it cannot be loaded.
    """
    if settings is not None and name in (NAIVE, SEASONAL_NAIVE, PACKAGED) and name in settings.models:
        raise CandlecastError(
            f"--model {name}: the settings have a [models.{name}], and predict has forecasts of this name: rename the "
            "one of the settings"
        )
    if name in (NAIVE, SEASONAL_NAIVE):
        return naive_model(name, 1 if name == NAIVE else season)
    compute = Compute(settings.compute) if settings else Compute()
    licence = settings.chronos2.licence if settings and name in chronos2_weights(settings) else None
    if name == CHRONOS2:
        from assets.forecasting.model_vintages import newest_store

        used = newest_store("chronos2_model", settings).current("chronos2_model") if settings else None
        if used is None:
            where = f"the home {settings.home}" if settings else "no home: without settings there is"
            raise CandlecastError(
                f"--model {CHRONOS2}: {where} has no Chronos-2 checkpoint yet: `candlecast run` makes it; --model "
                f"{PACKAGED} reads the weights of the package"
            )
        return _from_folder(used.folder, f"the checkpoint in use of {used.folder.parents[2]}", compute, licence)
    if name == PACKAGED:
        return _from_folder(PACKAGED_FOLDER, "the packaged compact weights", compute)
    if (settings is not None and name in settings.models) or name in entry_points(group=ENTRY_POINTS).names:
        from assets.forecasting.series.plugin import forecaster_model

        return forecaster_model(name, settings or Settings(), levels, horizon)
    root = settings.root if settings else Path()
    # A command's paths are relative to the working folder, those of the settings to their file.
    for folder in (Path(name).expanduser(), root / Path(name).expanduser()):
        if folder.is_dir():
            return _from_folder(folder, f"folder {folder}", compute, licence)
    if hub := hub_reference(name, root):
        return _from_hub(*hub, settings, compute, licence)
    own = sorted({*(settings.models if settings else ()), *entry_points(group=ENTRY_POINTS).names})
    every = ", ".join([CHRONOS2, PACKAGED, NAIVE, SEASONAL_NAIVE, *own])
    raise CandlecastError(
        f"--model {name}: there is no such model; there are {every}, folders of Chronos-2 weights, and hub ids such as "
        "amazon/chronos-2"
    )


def at_revision(name: str, revision: str | None, settings: Settings | None) -> str:
    """The name of a model with the revision that is stated beside it.

    Raises:
        CandlecastError: the model is no hub id, or has another revision in its name.
    """
    if revision is None:
        return name
    reference = hub_reference(name, settings.root if settings else Path())
    if reference is None or Path(name).expanduser().is_dir():
        raise CandlecastError(f"revision = {revision!r}: {name} is no hub id, and has none: leave it out")
    if reference[1] not in (None, revision):
        raise CandlecastError(f"revision = {revision!r}, and the model is {name}: state one of both")
    return f"{reference[0]}@{revision}"


def chronos2_weights(settings: Settings) -> tuple[str, ...]:
    """The names of the Chronos-2 weights whose licence the settings may state: `chronos2.licence`."""
    return CHRONOS2, settings.chronos2.base


def _from_folder(folder: Path, weights: str, compute: Compute, licence: str | None = None) -> SeriesModel:
    config = folder / "config.json"
    if not config.is_file():
        raise CandlecastError(f"--model {folder}: there is no config.json in it: name a folder of Chronos-2 weights")
    found = folder_weights(folder)
    pipeline = _loaded(str(folder), compute, found.identity)
    notes = []
    if folder == PACKAGED_FOLDER:
        notes.append("these weights were fitted to simulated series; --model amazon/chronos-2 reads the published ones")
    if found.card.get("training"):
        fitted = found.card.get("settings", {})
        unseen = "of other series"
        if not (fitted.get("past_covariates") or fitted.get("future_covariates")):
            unseen += " and of covariates"
        notes.append(
            f"these weights were fitted by candlecast on bars, {unseen} they have seen none; --model amazon/chronos-2 "
            "reads the published weights"
        )
    about = ModelAbout(CHRONOS2, weights, found.identity, None, licence or found.licence, tuple(notes))
    return Chronos2Model(about, pipeline)


def _from_hub(
    name: str, revision: str | None, settings: Settings | None, compute: Compute, licence: str | None
) -> SeriesModel:
    """The commit that the home has pinned; without a home the stated one, or the newest of the hub or its cache."""
    if settings is not None:
        found = hub_weights(settings, name, revision)
        pipeline = _loaded(str(found.folder), compute, found.identity)
        about = ModelAbout(CHRONOS2, f"hub {name}", None, found.commit, licence or found.licence)
        return Chronos2Model(about, pipeline)
    folder = snapshot_folder(name, revision)
    commit, notes = folder.name, []
    if revision != commit:
        notes.append(
            f"{name} was read at {commit}, where {revision or 'its main branch'} is today: --model {name}@{commit} "
            "reads this commit every time (in Python also revision=)"
        )
    pipeline = _loaded(str(folder), compute, commit)
    licence = licence or folder_weights(folder).licence
    return Chronos2Model(ModelAbout(CHRONOS2, f"hub {name}", None, commit, licence, tuple(notes)), pipeline)


def _loaded(folder: str, compute: Compute, digest: str) -> Chronos2Pipeline:
    pipeline = _pipeline(folder, compute, digest)
    # A pipeline that was loaded before may come after another model, which has set another number of threads.
    compute.use_threads(pipeline.model)
    return pipeline


@lru_cache(maxsize=2)
def _pipeline(folder: str, compute: Compute, digest: str) -> Chronos2Pipeline:
    """The pipeline of a folder with this digest or commit."""
    from chronos import Chronos2Pipeline

    logging.getLogger("chronos").setLevel(logging.ERROR)
    try:
        return load_pipeline(Chronos2Pipeline, folder, compute)
    except (OSError, ValueError, KeyError, AttributeError, AssertionError) as error:
        raise CandlecastError(
            f"--model {folder} holds no Chronos-2 weights that can be read: {error}. Name a folder or a hub id of such"
        ) from error
