"""What each asset reads and writes: keys of the settings, tables, folders of the home, source code.

An asset is up to date while all of it is as its last run left it. So a list here may name too much, which runs an asset
that is up to date, and never too little. An asset that is not listed always runs. Not here: how contents are compared
(contents), and what follows (plan).
"""

from __future__ import annotations

from dataclasses import dataclass

from assets.forecasts.catalogue import ForecastAsset, all_forecast_assets
from resources.settings import Settings
from resources.settings_models import BUILT_IN_ASSETS

# Of the folders, what a pointer names is read, where there is one (contents.files_of).
CHECKPOINTS, WINDOWS, DRIFT, ESTIMATES, PATHS, QLIB, BACKTESTS, REPORTS = (
    "checkpoints", "windows", "drift", "estimates", "paths", "qlib", "backtests", "reports",
)  # fmt: skip
BARS = ("bars", "bar_versions", "corporate_actions")
FORECASTS = ("forecasts", "forecast_quantiles", "failed_forecasts", "forecast_recipes")
SCORES = (*BARS, *FORECASTS, "forecast_scores", "scored_actuals")
SIGNALS = ("signals", "signal_omissions")
RISK = (*SCORES, "scoreboard", "forecast_risk")
ALL_TABLES = (*RISK, "rejected_bars", "payloads", "forecast_costs", "risk_backtest", *SIGNALS, "backtests",
              "backtest_days")  # fmt: skip

_BASE = ("profile", "seed", "market", "windows", "compute")
_KRONOS, _CHRONOS2 = ("tokenizer", "predictor"), ("chronos2",)
_FORECAST = (*_BASE, "forecasts", "calibration.enabled", "calibration.warm_up")
_MODELS = (*_FORECAST, *_KRONOS, *_CHRONOS2, "volatility", "models", "calibration", "drift")
# The market's return is a covariate of Chronos-2 that windows contain where the settings ask for it.
_INPUTS = ("chronos2.targets", "chronos2.past_covariates", "chronos2.future_covariates", "chronos2.events")
# Where things are says nothing about what they contain.
NOT_READ = frozenset({"home", "root", "warehouse", "secrets"})
EVERYTHING = tuple(name for name in Settings.model_fields if name not in NOT_READ)


@dataclass(frozen=True)
class Reads:
    """What one asset, with its checks, reads and writes.

    Attributes:
        settings: sections, or `section.key`.
        tables: of the warehouse.
        folders: of the home: a name of `Home`, or a folder inside one.
        rows_of: the assets of forecasts whose rows of the tables by model are read; empty: all rows.
    """

    settings: tuple[str, ...]
    tables: tuple[str, ...]
    folders: tuple[str, ...] = ()
    rows_of: tuple[str, ...] = ()


READS = {
    "training_windows": Reads((*_BASE, *_INPUTS), BARS, (WINDOWS,)),
    "kronos_tokenizer": Reads(
        (*_BASE, *_INPUTS, "tokenizer", "promotion"), BARS, (WINDOWS, f"{CHECKPOINTS}/kronos_tokenizer")
    ),
    "kronos_predictor": Reads(
        (*_BASE, *_INPUTS, *_KRONOS, "promotion", "forecasts"),
        BARS,
        (WINDOWS, f"{CHECKPOINTS}/kronos_tokenizer", f"{CHECKPOINTS}/kronos_predictor"),
    ),
    "chronos2_model": Reads(
        (*_BASE, *_CHRONOS2, "promotion", "forecasts"), BARS, (WINDOWS, f"{CHECKPOINTS}/chronos2_model")
    ),
    "volatility_model": Reads(
        (*_BASE, "volatility", "promotion", "forecasts"), BARS, (f"{CHECKPOINTS}/volatility_model",)
    ),
    "input_drift": Reads(
        (*_FORECAST, *_KRONOS, "drift"),
        BARS,
        (DRIFT, f"{CHECKPOINTS}/kronos_tokenizer", f"{CHECKPOINTS}/kronos_predictor"),
    ),
    "forecast_scores": Reads(_MODELS, SCORES),
    "scoreboard": Reads((*_MODELS, "evaluation"), (*SCORES, "scoreboard", "forecast_costs")),
    "forecast_risk": Reads((*_MODELS, "evaluation", "risk"), RISK, (PATHS,)),
    "risk_backtest": Reads((*_MODELS, "evaluation", "risk"), (*RISK, "risk_backtest"), (PATHS,)),
    "signals": Reads((*_MODELS, "backtest.signal_step"), (*BARS, *FORECASTS, *SIGNALS)),
    "qlib_provider": Reads(_BASE, BARS, (QLIB,)),
    "backtest_report": Reads(EVERYTHING, ALL_TABLES, (QLIB, BACKTESTS, REPORTS, CHECKPOINTS)),
}
# What the settings name beside their own keys: files whose content counts.
FILES = ("market.members", "chronos2.events", "chronos2.groups")
_OF_MODEL = {"volatility_forecasts": ("volatility",), "kronos_forecasts": (*_KRONOS, "drift"),
             "chronos2_forecasts": _CHRONOS2}  # fmt: skip


def reads_of(settings: Settings) -> dict[str, Reads]:
    """What each asset reads, by name."""
    return {**READS, **{asset.name: _of_forecasts(asset) for asset in all_forecast_assets(settings)}}


def _of_forecasts(asset: ForecastAsset) -> Reads:
    checkpoints = tuple(f"{CHECKPOINTS}/{kind}" for kind in asset.models)
    if asset.derived_from:
        read = (*asset.derived_from, asset.name)
        return Reads((*_MODELS, "evaluation"), (*BARS, *FORECASTS), (DRIFT, CHECKPOINTS), read)
    folders = (*checkpoints, PATHS, *([ESTIMATES] if asset.name == "baseline_forecasts" else []))
    if asset.name == "kronos_forecasts":
        folders = (*folders, DRIFT)
    # Of a model of the settings it is not known which sections its factory reads.
    own = _OF_MODEL.get(asset.name, ()) if asset.name in BUILT_IN_ASSETS else (*_MODELS, "embeddings")
    return Reads((*_FORECAST, *own), (*BARS, *FORECASTS), folders, (asset.name,))
