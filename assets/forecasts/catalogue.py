"""The catalogue of the assets of forecasts: what each reads, depends on and is called.

Not here: how they are made (assets).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assets.forecasting.chronos2.sources import fields_read, known_columns
from resources.settings import ModelSettings, Settings
from resources.settings_models import CALIBRATED_ASSET, COMBINED_ASSET, forecast_asset

# The assets that train each model.
_TRAINING = {
    "kronos": ("kronos_tokenizer", "kronos_predictor"),
    "chronos2": ("chronos2_model",),
    "volatility": ("volatility_model",),
}
_FIELDS = ("open", "high", "low", "close", "volume", "amount")
_CHRONOS2 = "chronos2_forecasts"
# The companion process imports torch for some seconds, in which what needs no network is made.
_NETWORKS = -1
# The source of what is known over the horizon where the name of its table is not recorded.
EVENTS = "known_events"


@dataclass(frozen=True)
class ForecastAsset:
    """One asset of forecasts.

    Attributes:
        priority: of assets that can be made, those with the highest come first.
    """

    name: str
    description: str
    kinds: set[str]
    reads: tuple[str, ...] = ("close",)
    needs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    pool: str = "gpu"
    derived_from: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    priority: int = 0

    @property
    def sources(self) -> dict[str, list[str]]:
        """By column, the columns of `bars`, `corporate_actions` and other tables that it is computed from."""
        factors = ["corporate_actions.price_factor", *(["corporate_actions.value"] if "volume" in self.reads else [])]
        factors += [f"{asset}.value" for asset in self.derived_from]
        values = [*(f"bars.{field}" for field in self.reads), *factors, *self.known]
        return {"symbol": ["bars.symbol"], "origin": ["bars.ts"], "value": values}

    def reading(self, recipes: Sequence[Mapping[str, Any]], events: str | None = None) -> "ForecastAsset":
        """The asset with what models with these recipes read: of Chronos-2 the targets and covariates decide it.

        Args:
            events: the name of the table of known events; None: it is not recorded.
        """
        if self.name != _CHRONOS2 or not recipes:
            return self
        fields = {field for recipe in recipes for field in fields_read(recipe)}
        known = {column: None for recipe in recipes for column in known_columns(recipe, events or EVENTS)}
        return replace(self, reads=tuple(field for field in _FIELDS if field in fields), known=tuple(known))


FORECAST_ASSETS = (
    ForecastAsset(
        "baseline_forecasts",
        "Quantiles of the close by random walk (252-day and EWMA volatility), drift and momentum, in closed form, and "
        "by GARCH, GJR-GARCH and HAR with parameters estimated on the training range. A model without skill against "
        "them has no value.",
        {"duckdb"},
        reads=_FIELDS[:4],
        pool="warehouse",
    ),
    ForecastAsset(
        "volatility_forecasts",
        "Quantiles of the close about the last close, as wide as the volatility model says: from ranges, gaps, returns "
        "and volume of a symbol and of its market. Without a view on direction.",
        {"duckdb", "numpy"},
        reads=_FIELDS[:5],
        models=_TRAINING["volatility"],
        pool="warehouse",
    ),
    ForecastAsset(
        "kronos_forecasts",
        "Forecasts by Kronos: sample paths of bars in Parquet, and quantiles of all six fields in DuckDB.",
        {"duckdb", "parquet", "pytorch"},
        reads=_FIELDS,
        needs=("input_drift",),
        models=_TRAINING["kronos"],
        priority=_NETWORKS,
    ),
    ForecastAsset(
        _CHRONOS2,
        "Forecasts by Chronos-2: quantiles of the close, and of range and volume where they are targets, sorted where "
        "they cross.",
        {"duckdb", "pytorch"},
        models=_TRAINING["chronos2"],
        priority=_NETWORKS,
    ),
)


def columns_read(model: str, recipe: str) -> str:
    """The columns that the forecasts of a model with a recipe, as it is stored, are computed from."""
    name = forecast_asset(model)
    if name in (CALIBRATED_ASSET, COMBINED_ASSET):
        return "forecast_quantiles.value"
    asset = next((one for one in FORECAST_ASSETS if one.name == name), None)
    asset = asset or ForecastAsset(name, "", set(), reads=_FIELDS)
    return ", ".join(asset.reading([json.loads(recipe)]).sources["value"])


def all_forecast_assets(settings: Settings) -> list[ForecastAsset]:
    """The assets of the built-in models, of those of the settings, and of forecasts derived from others."""
    plugins = (_plugin(name, model) for name, model in settings.enabled_models.items())
    return [*FORECAST_ASSETS, *plugins, *_derived(settings)]


def _derived(settings: Settings) -> Iterator[ForecastAsset]:
    """The assets whose forecasts are computed from stored forecasts of the others."""
    if settings.calibration.enabled:
        yield ForecastAsset(
            CALIBRATED_ASSET,
            "Forecasts of the other models, recalibrated by the outcomes of earlier origins, and Kronos and Chronos-2 "
            "anchored to the volatility model.",
            {"duckdb"},
            pool="warehouse",
            derived_from=settings.base_forecast_assets,
        )
    if settings.combined:
        yield ForecastAsset(
            COMBINED_ASSET,
            "Averages of the quantiles of all models but recalibrated ones, in log prices: with equal weights, and "
            "with weights by the CRPS of forecasts from earlier origins.",
            {"duckdb"},
            pool="warehouse",
            derived_from=(*settings.base_forecast_assets, CALIBRATED_ASSET),
        )


def _plugin(name: str, model: ModelSettings) -> ForecastAsset:
    """The asset of a model of the settings. Its module is not imported: family and licence are on the asset's page."""
    licence = f" Licence: {model.licence}." if model.licence else ""
    description = f"Forecasts by {name}, made by `{model.factory or name}`.{licence}"
    trained = tuple(asset for one in model.reads for asset in _TRAINING[one])
    return ForecastAsset(forecast_asset(name), description, {"duckdb", "python"}, reads=_FIELDS, models=trained)
