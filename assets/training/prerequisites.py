"""What a fit needs, checked in seconds before any fit: base weights that load, and bars that fill the three ranges.

The checks call what training itself calls, so that both agree. Every function returns problems as text, each with the
key to correct; an empty list means that nothing is wrong. Not here: the fit (assets.training.fit).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from assets.forecasting.volatility.regression import VolatilityWeights
from assets.market.history import BarHistory
from assets.training.checkpoint_request import starting_weights
from assets.training.data.windows import WindowSet, build_windows
from assets.training.fit.base_weights import AUTO, SECTIONS, WEIGHTS, BaseWeights, different_tokens
from assets.training.fit.lr_schedule import TrainingSchedule
from assets.training.model_selection.promotion import PROMOTED
from resources.checkpoints import Kind
from resources.errors import CandlecastError
from resources.settings import Chronos2Settings, FitSettings, Settings, VolatilitySettings
from resources.vintages import at_vintage, settings_by_vintage, vintage_of

CONFIG, MODEL_FILE = "config.json", "model.safetensors"
# Keys that the configuration of each kind has, and others lack.
_OWN_KEYS: Mapping[Kind, str] = {
    "kronos_tokenizer": "n_enc_layers",
    "kronos_predictor": "n_layers",
    "chronos2_model": "chronos_config",
    "volatility_model": "inputs_version",
}


def weight_problems(settings: Settings) -> list[str]:
    """Why a model, or a vintage of it, cannot start from its base: missing, of a wrong family, shape or cutoff."""
    found = [
        (vintage, text) for vintage, own in settings_by_vintage(settings) for text in _weight_problems(own, vintage)
    ]
    return [text if vintage is None else f"{text} (vintage {vintage})" for vintage, text in found]


def _weight_problems(settings: Settings, vintage: date | None) -> list[str]:
    problems: list[str] = []
    bases: dict[Kind, BaseWeights] = {}
    for kind, section in SECTIONS.items():
        try:
            bases[kind], _ = starting_weights(kind, settings)
            if vintage is not None:
                bases[kind].require_before(vintage, section)
            problems += _folder_problems(kind, bases[kind], getattr(settings, section))
        except CandlecastError as error:
            problems.append(f"{section}.base: {error}")
    if not problems:
        problems += _token_problems(bases, settings)
    return problems


def window_problems(settings: Settings, histories: Mapping[str, BarHistory], needs_origins: bool = True) -> list[str]:
    """Why the bars cannot be trained on: too little history, empty ranges, too few windows for a batch.

    Args:
        needs_origins: as for `build_windows`.
    """
    try:
        windows = build_windows(histories, settings.windows, needs_origins)
    except CandlecastError as error:
        return [str(error)]
    return [*_batch_problems(windows, settings), *_context_problems(windows, settings)]


def expiry_problems(settings: Settings, newest: date) -> list[str]:
    """Models that would have expired before the newest bar, as soon as they are trained."""
    days = settings.promotion.expires_days
    if days is None:
        return []
    vintage = vintage_of(settings.windows, newest)
    settings = at_vintage(settings, vintage) if vintage else settings
    problems = []
    for kind in PROMOTED:
        base, trains = starting_weights(kind, settings)
        cutoff = base.cutoff_after(settings.windows.cutoff if trains else None)
        until = cutoff + timedelta(days=days) if cutoff else None
        if until is None:
            problems.append(
                f"promotion.expires_days: the cutoff of {SECTIONS[kind]}.base is unknown: leave the key out"
            )
        elif until < newest:
            problems.append(
                f"promotion.expires_days = {days}: {kind} would have the cutoff {cutoff} and expire after {until}, the "
                f"newest bar is of {newest}: move windows.train and windows.validation forward, or raise it"
            )
    return problems


def weight_cutoffs(settings: Settings) -> dict[str, tuple[date | None, bool]]:
    """By section of each model that forecasts: its cutoff (None: unknown), and whether it is a day of publication.

    Without the volatility model where its base is "auto", which follows the ranges. Empty if a base cannot be used:
    `weight_problems` says why.
    """
    own: dict[str, tuple[date | None, bool]] = {}
    _, settings = settings_by_vintage(settings)[0]
    for kind, section in SECTIONS.items():
        try:
            base, trains = starting_weights(kind, settings)
        except CandlecastError:
            return {}
        cutoff = base.cutoff_after(settings.windows.cutoff if trains else None)
        own[section] = cutoff, base.bounded and cutoff == base.cutoff
    if settings.volatility.base == AUTO:
        del own["volatility"]
    tokenizer = own.pop("tokenizer")
    if tokenizer[0] is None or (own["predictor"][0] and tokenizer[0] > own["predictor"][0]):
        own["predictor"] = tokenizer
    return own


def _folder_problems(
    kind: Kind, base: BaseWeights, section: FitSettings | Chronos2Settings | VolatilitySettings
) -> list[str]:
    """Why a folder of weights cannot be the base of a kind."""
    name = SECTIONS[kind]
    lora = getattr(section, "mode", None) or getattr(section, "adapt", None)
    if lora == "lora" and find_spec("peft") is None:
        return [f'{name}: "lora" needs peft, which is not installed: pip install peft']
    folder = Path(base.source or "")
    if base.from_scratch or folder.parent == WEIGHTS or not folder.is_dir():
        return []
    missing = [file for file in (CONFIG, MODEL_FILE) if not (folder / file).is_file()]
    if missing:
        return [f"{name}.base: {folder} has no {' and no '.join(missing)}: copy it from its source"]
    own = _OWN_KEYS[kind]
    if own not in _config(folder):
        return [f"{name}.base: {folder} holds no weights for {kind} ({CONFIG} has no {own}): set it to such weights"]
    return _loading_problems(kind, folder, name)


def _loading_problems(kind: Kind, folder: Path, name: str) -> list[str]:
    """Load the weights as a fit does: every tensor by name and shape; of Chronos-2 the file's structure."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / MODEL_FILE, framework="numpy") as tensors:
            tensors.keys()
        if kind == "volatility_model":
            VolatilityWeights.load(folder)
        elif kind != "chronos2_model":
            _kronos_loader(kind)(folder)
    except SafetensorError as error:
        return [f"{name}.base: {folder / MODEL_FILE} is damaged ({error}): copy it from its source"]
    except (ValueError, CandlecastError) as error:  # CheckpointError of the library
        return [f"{name}.base: {error}"]
    return []


def _kronos_loader(kind: Kind) -> Callable[[Path], object]:
    from kronos import Kronos, KronosTokenizer

    return KronosTokenizer.from_pretrained if kind == "kronos_tokenizer" else Kronos.from_pretrained


def _token_problems(bases: Mapping[Kind, BaseWeights], settings: Settings) -> list[str]:
    """A predictor that starts from a base reads tokens of the bits that the tokenizer writes."""
    base, tokenizer = bases["kronos_predictor"], bases["kronos_tokenizer"]
    if base.from_scratch:
        return []
    reads = _bits(Path(base.source or ""))
    writes = _bits(Path(tokenizer.source or "")) if not tokenizer.from_scratch else _bits_of(settings.tokenizer)
    if reads is None or writes is None or reads == writes:
        return []
    return [f"predictor.base: {base.source} {different_tokens(reads, writes)}"]


def _bits(folder: Path) -> tuple[int, int] | None:
    """The bits of a folder's tokens; none: it is not a folder."""
    if not (folder / CONFIG).is_file():
        return None
    config = _config(folder)
    return (config["s1_bits"], config["s2_bits"]) if "s1_bits" in config and "s2_bits" in config else None


def _bits_of(section: Any) -> tuple[int, int]:
    return section.s1_bits, section.s2_bits


def _config(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / CONFIG).read_bytes())
    return config if isinstance(config, dict) else {}


def _batch_problems(windows: WindowSet, settings: Settings) -> list[str]:
    problems = []
    for section in ("tokenizer", "predictor"):
        try:
            TrainingSchedule.from_settings(
                getattr(settings, section), settings.compute, windows.total("train"), settings.seed
            )
        except CandlecastError as error:
            problems.append(f"{section}.{error}")
    return problems


def _context_problems(windows: WindowSet, settings: Settings) -> list[str]:
    """Chronos-2 is fitted to whole series of the training range, of half its context and the horizon at least."""
    chronos2, length = settings.chronos2, settings.windows.lookback_window + settings.windows.predict_window
    if chronos2.mode == "zero-shot" or not chronos2.steps:
        return []
    longest = max(_span(windows, symbol) for symbol in np.unique(windows.arrays["train"][:, 0])) + length
    # A base may have fewer steps than the horizon: never refused here where the fit would accept it.
    shortest = chronos2.context_length // 2 + 1
    if longest >= shortest:
        return []
    return [
        f"chronos2.context_length = {chronos2.context_length} needs {shortest} bars of a symbol in windows.train, the "
        f"longest has {longest}: lower it, or widen windows.train"
    ]


def _span(windows: WindowSet, symbol: int) -> int:
    """Bars from the start of a symbol's first training window to that of its last."""
    train = windows.arrays["train"].astype(np.int64)
    return int(np.ptp(train[train[:, 0] == symbol, 1]))
