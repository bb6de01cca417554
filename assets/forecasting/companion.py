"""Networks of one thread in the companion process, which imports torch and chronos while this process does other work.

Not here: the process itself (resources.companion), and which weights take one thread (resources.compute).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from resources.checkpoints import CheckpointStore, Kind
from resources.companion import COMPANION, CompanionFunction, Item, Value
from resources.compute import Compute
from resources.layout import Home
from resources.settings import Settings

# What the networks import, the slowest first.
MODULES = (
    "torch",
    "chronos",
    "kronos.predictor",
    "assets.forecasting.chronos2.forecaster",
    "assets.forecasting.kronos_forecaster",
)
# The weights of each asset of forecasts that has networks, in the order in which a run makes them.
WEIGHTS: dict[str, tuple[Kind, ...]] = {
    "chronos2_forecasts": ("chronos2_model",),
    "kronos_forecasts": ("kronos_predictor", "kronos_tokenizer"),
}


def network(load: Callable[[], Callable[[Item], Value]], compute: Compute, *folders: Path) -> Callable[[Item], Value]:
    """The function that `load` returns: in the companion where the weights of these folders go there, else here.

    Args:
        load: picklable.

    Raises:
        CandlecastError: the weights cannot be loaded here. There they are loaded with the first call.
    """
    if not compute.uses_companion(*folders):
        return load()
    COMPANION.start(MODULES)
    return CompanionFunction(load)


def start_companion(settings: Settings) -> None:
    """Start the companion before its first network is loaded, if weights in use go there."""
    store, compute = CheckpointStore(Home(settings.home)), Compute(settings.compute)
    for asset, kinds in WEIGHTS.items():
        # What is wrong is the error of the asset that needs the weights.
        with suppress(Exception):
            used = kinds if asset in settings.forecast_assets else ()
            weights = [store.at(max(store.vintages(kind), default=None)).current(kind) for kind in used]
            folders = [one.folder for one in weights if one is not None]
            if folders and compute.uses_companion(*folders):
                COMPANION.start(MODULES)
