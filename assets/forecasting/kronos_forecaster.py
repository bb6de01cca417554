"""Kronos' forecasts: sample paths of whole bars, and quantiles read off them.

The first step's distribution is known without sampling; later steps are read off stratified paths by weighted means
(`forecasts.reading`; docs/reference/kronos.md says what a number of paths costs).
`forecasts.top_p` is 1 by default: truncated sampling narrows the distribution, and the distribution is what is scored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from assets.forecasting.companion import network
from assets.forecasting.forecaster import (
    METHOD,
    ForecastModel,
    ForecastTask,
    NetworkPredict,
    Prediction,
    Prepared,
    forecast_checkpoint,
    forecast_seed,
    market_recipe,
    path_quantiles,
    trained_until,
)
from assets.forecasting.lookbacks import fill_lookbacks
from assets.market.gaps import GapFill
from assets.market.history import FIELDS
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.compute import Compute
from resources.errors import CandlecastError
from resources.licences import UNKNOWN
from resources.settings import ForecastSettings, Settings

if TYPE_CHECKING:
    from kronos import KronosPredictor, PathResult

logger = logging.getLogger("candlecast.forecasts")
MODEL = "kronos"
VERSION = 2
BATCH_SIZE = 64


def kronos_forecaster(settings: Settings, checkpoints: CheckpointStore) -> ForecastModel:
    """The forecaster of the Kronos checkpoint in use.

    Raises:
        CandlecastError: there is no checkpoint yet, or its card names no tokenizer.
    """
    predictor = checkpoints.current("kronos_predictor")
    if predictor is None:
        vintage = f" of the vintage {checkpoints.vintage}" if checkpoints.vintage else ""
        raise CandlecastError(
            f"no Kronos checkpoint{vintage} yet: materialise kronos_tokenizer and kronos_predictor first"
        )
    tokenizer = tokenizer_of(predictor, checkpoints)
    windows, forecasts = settings.windows, settings.forecasts
    fill = GapFill.of(settings, predictor.card.get("training"))
    folders, compute = (predictor.folder, tokenizer.folder), Compute(settings.compute)
    load = partial(_load, settings, *folders)
    note = context_note(settings, predictor)
    if note:
        _warn_once(note)
    recipe: dict[str, Any] = {
        "model": MODEL,
        "version": VERSION,
        "tokenizer": tokenizer.digest,
        "lookback_window": windows.lookback_window,
        "predict_window": windows.predict_window,
        "max_context": windows.max_context,
        "clip": windows.clip,
        "sample_count": forecasts.sample_count,
        "temperature": forecasts.temperature,
        "top_k": forecasts.top_k,
        "top_p": forecasts.top_p,
        "levels": forecasts.levels,
        "reading": forecasts.reading,
        "method": METHOD,
        "dtype": settings.compute.dtype,
        "seed": settings.seed,
        **market_recipe(settings.market),
        **fill.recipe,
    }
    return ForecastModel(
        model=MODEL,
        checkpoint=forecast_checkpoint(recipe, predictor),
        weights=predictor.digest,
        recipe=recipe,
        trained_until=max(trained_until(predictor), trained_until(tokenizer)),
        load=cache(lambda: NetworkPredict(MODEL, partial(_prepare, settings, fill), network(load, compute, *folders))),
        batch_size=BATCH_SIZE,
        family="foundation model",
        licence=settings.predictor.licence or str(predictor.card.get("licence", UNKNOWN)),
        note=note,
        in_worker=load if compute.one_thread(*folders) else None,
    )


def context_note(settings: Settings, predictor: Checkpoint) -> str:
    """A warning that the model reads more bars than it was trained with; empty: it does not, or no card says so."""
    training, lookback = predictor.card.get("training") or {}, settings.windows.lookback_window
    trained = predictor.card.get("trained_lookback") or training.get("lookback")
    if not trained or lookback <= int(trained):
        return ""
    return (
        f"windows.lookback_window = {lookback}, and {predictor.kind} was trained with {trained} bars: what it "
        f"does beyond is not known. Set windows.lookback_window = {trained}, or train it with these (predictor.epochs)"
    )


@cache
def _warn_once(note: str) -> None:
    """One warning per process, however many sessions and vintages are forecast."""
    logger.warning("%s", note)


def tokenizer_of(predictor: Checkpoint, checkpoints: CheckpointStore) -> Checkpoint:
    """The tokenizer that a predictor was trained with.

    Raises:
        CandlecastError: the card names none.
    """
    digest = predictor.card.get("tokenizer")
    if not digest:
        raise CandlecastError(
            f"the card in {predictor.folder} has no key `tokenizer`: materialise kronos_predictor again"
        )
    return checkpoints.load("kronos_tokenizer", digest)


def load_predictor(settings: Settings, predictor: Path, tokenizer: Path) -> KronosPredictor:
    """The model of two folders of weights, on the device and in the precision of the settings."""
    from kronos import Kronos, KronosPredictor, KronosTokenizer

    compute, windows = Compute(settings.compute), settings.windows
    parts = Kronos.from_pretrained(predictor), KronosTokenizer.from_pretrained(tokenizer)
    return KronosPredictor(
        *parts,
        device=compute.device(),
        max_context=windows.max_context,
        clip=windows.clip,
        precision="bf16" if settings.compute.dtype == "bfloat16" else "fp32",
        threads=compute.use_threads(*parts),
    )


def sample_paths(
    model: KronosPredictor,
    forecasts: ForecastSettings,
    bars: Sequence[np.ndarray],
    stamps: Sequence[np.ndarray],
    targets: Sequence[np.ndarray] | np.ndarray,
    *,
    seeds: Sequence[int],
    names: Sequence[str],
) -> PathResult:
    """Sample paths of valid bars, with the sampling of the settings.

    Args:
        bars: lookbacks, each (n, 6); `stamps` are their timestamps.
        targets: the timestamps of the forecast, (horizon,) each.
        names: of the forecasts, for errors.

    Raises:
        kronos.InputError: bars are not valid, with name, field and row.
    """
    from kronos.features import time_features

    return model.sample_paths(
        bars,
        [time_features(one) for one in stamps],
        [time_features(one) for one in targets],
        len(targets[0]),
        paths=forecasts.sample_count,
        T=forecasts.temperature,
        top_k=forecasts.top_k,
        top_p=forecasts.top_p,
        seeds=seeds,
        project=True,
        names=names,
        draws="stratified" if forecasts.reading == "exact" else "independent",
    )


def read_quantiles(result: PathResult, reading: Literal["exact", "empirical"], levels: Sequence[float]) -> np.ndarray:
    """(series, steps, fields, levels) float64, increasing with level."""
    if reading == "empirical":
        return path_quantiles(result.paths, levels)
    read = np.moveaxis(result.quantiles(levels).astype(np.float64), 1, -1)
    return np.maximum.accumulate(read, axis=-1)


class Lookbacks(NamedTuple):
    """The input of the network for some tasks: their lookbacks, targets, seeds and names; see `sample_paths`."""

    bars: list[np.ndarray]
    stamps: list[np.ndarray]
    targets: np.ndarray
    seeds: list[int]
    names: list[str]


class Sampled(NamedTuple):
    """Quantiles, the share of the bars of each task that were projected, and paths; see `Prediction`."""

    quantiles: np.ndarray
    projected: np.ndarray
    paths: np.ndarray


def _prepare(settings: Settings, fill: GapFill, tasks: Sequence[ForecastTask], targets: np.ndarray) -> Prepared:
    tasks, lookback = fill_lookbacks(tasks, fill), settings.windows.lookback_window
    spans = [(task.history, task.index - lookback + 1, task.index) for task in tasks]
    item = Lookbacks(
        [history.bars_as_of(last, first) for history, first, last in spans],
        [history.stamps[first : last + 1] for history, first, last in spans],
        targets,
        [forecast_seed(settings.seed, task.symbol, task.origin) for task in tasks],
        [f"{task.symbol} from {task.origin}" for task in tasks],
    )
    return Prepared(item, _finish)


def _finish(found: Sampled) -> Prediction:
    return Prediction(FIELDS, found.quantiles, found.projected, found.paths)


def _load(settings: Settings, predictor: Path, tokenizer: Path) -> Callable[[Lookbacks], Sampled]:
    model, forecasts = load_predictor(settings, predictor, tokenizer), settings.forecasts

    def sample(item: Lookbacks) -> Sampled:
        result = sample_paths(
            model, forecasts, item.bars, item.stamps, item.targets, seeds=item.seeds, names=item.names
        )
        quantiles = read_quantiles(result, forecasts.reading, forecasts.levels)
        return Sampled(quantiles, result.projection_rate.astype(np.float64), result.paths)

    return sample
