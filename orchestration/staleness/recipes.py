"""Recipes of what assets make: the decisions of the assets themselves on what they would make now.

Not here: the contents of what they read (contents).
"""

from __future__ import annotations

from collections.abc import Iterable

from assets.forecasting.forecaster import ForecastModel
from assets.market.ingest.lake import Lake
from assets.market.outcomes import file_outcomes
from assets.training.checkpoint_request import checkpoint_request, starting_weights
from assets.training.data.current_windows import current_windows
from assets.training.data.windows import WINDOWS_VERSION
from assets.training.model_selection.promotion import PROMOTED
from assets.training.volatility import RECIPE_VERSION as VOLATILITY_VERSION
from resources.candlecast import Candlecast
from resources.checkpoints import Kind
from resources.disclosure import public_settings

# Of the assets that train.
KINDS: tuple[Kind, ...] = ("kronos_tokenizer", *PROMOTED)


def training_recipe(kind: Kind, candlecast: Candlecast) -> object:
    """The recipe of the checkpoint that a training asset would make or find.

    Raises:
        CandlecastError: the base, the windows or the tokenizer are missing.
    """
    settings, store = candlecast.settings, candlecast.checkpoints
    base, trains = starting_weights(kind, settings)
    dated = [base.digest, base.cutoff, base.licence, trains]
    if kind == "volatility_model":
        return [*dated, VOLATILITY_VERSION]
    windows = current_windows(candlecast.home)
    tokenizer = store.current("kronos_tokenizer") if kind == "kronos_predictor" else None
    request = checkpoint_request(kind, settings, windows, tokenizer)
    return [*dated, request.recipe, request.dates(settings), WINDOWS_VERSION]


def model_recipes(models: Iterable[ForecastModel]) -> object:
    """What identifies the forecasts of some models, and whether they are in-sample."""
    return [[one.model, one.checkpoint, one.weights, one.trained_until, one.licence, one.vintage] for one in models]


def report_facts(candlecast: Candlecast, warnings: list[str]) -> object:
    """What the report names beside the results: settings, versions, files, warnings of the market's checks."""
    # Commands that make no report start without its modules.
    from assets.backtests.report.contents import code_revision, package_versions
    from assets.backtests.results import CODE_VERSION

    frequency = candlecast.settings.market.frequency
    files = file_outcomes(candlecast.warehouse, Lake(candlecast.home), frequency)
    public = public_settings(candlecast.settings)
    return [code_revision(), package_versions(), CODE_VERSION, public, [vars(one) for one in files], warnings]
