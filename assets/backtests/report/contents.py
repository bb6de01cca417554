"""The contents of the report: everything that it shows, read once from warehouse, checkpoints and settings.

The digest of a report is computed from its contents, so they include no wall-clock time. Not here: drawing (plots),
layout (page) and writing (publish).
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from assets.backtests.plan import BacktestPlan
from assets.backtests.report.anchoring import read_anchoring
from assets.backtests.report.calibration import read_calibration
from assets.backtests.report.skill import read_skill_groups
from assets.backtests.results import BacktestResult
from assets.backtests.signals import OmittedForecasts
from assets.forecasting.filters import FORECAST_FILTER, ForecastFilter, UsedCheckpoints, checkpoint_pairs
from assets.forecasting.model_vintages import trained_vintages
from assets.forecasting.plots import Fan, read_fan
from assets.market.history import BarHistory, read_histories
from assets.market.ingest.lake import Lake
from assets.market.outcomes import FileOutcome, file_outcomes
from assets.market.universe import Universe, read_universe
from resources.calendar import TradingCalendar
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.disclosure import public_settings
from resources.settings import Settings
from resources.sql import load_sql
from resources.vintages import has_vintages
from resources.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[3]
KINDS: tuple[Kind, ...] = ("kronos_tokenizer", "kronos_predictor", "chronos2_model", "volatility_model")
TITLES: Mapping[Kind, str] = {
    "kronos_tokenizer": "Kronos tokenizer",
    "kronos_predictor": "Kronos predictor",
    "chronos2_model": "Chronos-2",
    "volatility_model": "Volatility model",
}
PACKAGES = (
    "candlecast", "dagster", "duckdb", "numpy", "pandas", "torch", "transformers", "chronos-forecasting", "pyqlib",
    "arch", "exchange-calendars", "matplotlib",
)  # fmt: skip
TABLES = (
    "payloads", "bars", "rejected_bars", "corporate_actions", "forecasts", "forecast_quantiles", "forecast_scores",
    "scoreboard", "forecast_risk", "risk_backtest", "signals", "backtest_days", "backtests",
)  # fmt: skip
FAN_CASES = 3
# Four panels per row. In each the first model that has forecasts: none is chosen by its result.
FAN_PANELS = (
    ("random_walk_ewma",),
    ("volatility", "momentum"),
    ("kronos",),
    ("chronos2",),
)

_SCOREBOARD = "SELECT * FROM scoreboard ORDER BY metric, horizon, model, baseline"
_RISK = "SELECT * FROM risk_backtest ORDER BY measure, level, step, model"
_REJECTED = "SELECT rule, count(*) AS rows FROM rejected_bars GROUP BY rule ORDER BY rows DESC, rule"
_FORECASTS = f"""
SELECT model, checkpoint, symbol, origin, in_sample FROM forecasts
WHERE list_contains($checkpoints, model || ' ' || checkpoint) AND {FORECAST_FILTER} ORDER BY model, origin, symbol
"""
_CORRECTED_SINCE = f"""
SELECT model, count(*) FROM made_from_corrected_bars
WHERE list_contains($checkpoints, model || ' ' || checkpoint) AND {FORECAST_FILTER} GROUP BY model ORDER BY model
"""

# The median of the close alone: the other quantiles have the same targets.
_BEFORE_CLOSURES = f"""
SELECT count(DISTINCT origin)
FROM (
    SELECT origin, max(target_ts) AS last FROM forecast_quantiles
    WHERE list_contains($checkpoints, model || ' ' || checkpoint) AND NOT in_sample AND {FORECAST_FILTER}
      AND field = 'close' AND level = 0.5
    GROUP BY origin
)
JOIN (SELECT unnest($closures::TIMESTAMP[]) AS day) ON origin < day AND last > day
"""


@dataclass(frozen=True)
class FanCase:
    """Fans of several models for one symbol and origin."""

    symbol: str
    origin: np.datetime64
    fans: tuple[Fan, ...]


@dataclass(frozen=True)
class MarketSummary:
    """Outcome of the received rows by source and by file, rejected rows by rule, coverage per symbol, the market's
    checks that fail, and the number of forecasts per model that were made from bars which were corrected since."""

    payloads: pd.DataFrame
    rejected: pd.DataFrame
    coverage: pd.DataFrame
    files: tuple[FileOutcome, ...] = ()
    warnings: tuple[str, ...] = ()
    corrected_since: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class ReportContents:
    """Everything that the report shows. Parts without data are empty frames or empty tuples.

    `vintages`: by kind, the checkpoints of all vintages, oldest first; `checkpoints` are then those of the newest.
    `closures`: irregular closures of the test range; `origins_before_closures`: out-of-sample origins that have one
    within the horizon; `about`: family and licence of each model.
    """

    settings: Mapping[str, Any]
    market: MarketSummary
    universe: Universe
    forecasts: pd.DataFrame
    scoreboard: pd.DataFrame
    risk: pd.DataFrame
    calibration: pd.DataFrame
    skill_groups: pd.DataFrame
    anchoring: pd.DataFrame
    fans: tuple[FanCase, ...]
    omissions: tuple[OmittedForecasts, ...]
    backtest: BacktestResult
    checkpoints: tuple[Checkpoint, ...]
    used: UsedCheckpoints
    rows: Mapping[str, int]
    versions: Mapping[str, str]
    revision: str
    provider: str
    vintages: tuple[tuple[Kind, tuple[Checkpoint, ...]], ...] = ()
    closures: tuple[date, ...] = ()
    origins_before_closures: int = 0
    about: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def plan(self) -> BacktestPlan | None:
        return self.backtest.plan if isinstance(self.backtest.plan, BacktestPlan) else None


def read_contents(
    settings: Settings,
    warehouse: Warehouse,
    checkpoints: CheckpointStore,
    used: UsedCheckpoints,
    result: BacktestResult,
    omissions: Sequence[OmittedForecasts],
    provider: str,
    warnings: Sequence[str] = (),
    about: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> ReportContents:
    """The contents of the report, from the warehouse, the checkpoint store and the settings.

    Forecasts, scores and coverage are of what the settings ask for; what was received is of the whole home.

    Args:
        used: the checkpoints in use of each model.
        warnings: the market's checks that fail, as text.
        about: family and licence of each model.
    """
    frequency, chosen = settings.market.frequency, ForecastFilter.of(settings, warehouse)
    pairs = {"checkpoints": [f"{model} {checkpoint}" for model, checkpoint in checkpoint_pairs(used)]}
    levels = list(settings.forecasts.levels)
    in_use = {kind: _checkpoints_in_use(kind, settings, checkpoints) for kind in KINDS}
    closures = TradingCalendar(settings.market.calendar).irregular_closures(*settings.windows.test)
    files = tuple(file_outcomes(warehouse, Lake(checkpoints.home), frequency))
    with warehouse.read() as connection:
        forecasts = connection.execute(_FORECASTS, {**pairs, **chosen.parameters}).df()
        calibration = read_calibration(connection, {**pairs, "levels": levels, **chosen.parameters})
        skill_groups = read_skill_groups(connection, {**pairs, **chosen.parameters})
        anchoring = read_anchoring(connection, {**pairs, **chosen.parameters}, frequency)
        market = MarketSummary(
            connection.execute(load_sql("assets.backtests.report", "payload_outcomes.sql")).df(),
            connection.execute(_REJECTED).df(),
            connection.execute(
                load_sql("assets.backtests.report", "coverage.sql"),
                {"frequency": frequency, "symbols": chosen.parameters["symbols"]},
            ).df(),
            files,
            tuple(warnings),
            tuple(connection.execute(_CORRECTED_SINCE, {**pairs, **chosen.parameters}).fetchall()),
        )
        scoreboard = connection.execute(_SCOREBOARD).df()
        risk = connection.execute(_RISK).df()
        ((before,),) = connection.execute(
            _BEFORE_CLOSURES, {**pairs, **chosen.parameters, "closures": list(closures)}
        ).fetchall()
        rows = {table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]) for table in TABLES}
    return ReportContents(
        settings=public_settings(settings),
        market=market,
        universe=read_universe(settings, warehouse),
        forecasts=forecasts,
        scoreboard=scoreboard,
        risk=risk,
        calibration=calibration,
        skill_groups=skill_groups,
        anchoring=anchoring,
        fans=tuple(_fan_cases(warehouse, frequency, forecasts, settings.windows.predict_window)),
        omissions=tuple(omissions),
        backtest=result,
        checkpoints=tuple(in_use[kind][-1] for kind in KINDS if in_use[kind]),
        vintages=tuple((kind, in_use[kind]) for kind in KINDS if in_use[kind])
        if has_vintages(settings.windows)
        else (),
        used=dict(used),
        rows=rows,
        versions=package_versions(),
        revision=code_revision(),
        provider=provider,
        closures=closures,
        origins_before_closures=int(before),
        about=dict(about),
    )


def _checkpoints_in_use(kind: Kind, settings: Settings, checkpoints: CheckpointStore) -> tuple[Checkpoint, ...]:
    """The checkpoint in use of a kind, or those of its vintages, the newest last."""
    trained = trained_vintages(kind, settings, checkpoints)
    return tuple(found for vintage in trained if (found := checkpoints.at(vintage).current(kind)))


def _fan_cases(warehouse: Warehouse, frequency: str, forecasts: pd.DataFrame, horizon: int) -> list[FanCase]:
    """Fans of symbols and origins at fixed positions of the sorted list, chosen independently of the results."""
    made = set(forecasts["model"])
    panels = ([model for model in panel if model in made] for panel in FAN_PANELS)
    shown = [panel[0] for panel in panels if panel]
    unseen = forecasts[~forecasts["in_sample"].astype(bool) & forecasts["model"].isin(shown)]
    if unseen.empty:
        return []
    histories = read_histories(warehouse, frequency, symbols=sorted(unseen["symbol"].unique()))
    complete_forecasts = _with_actuals(unseen, histories, horizon)
    complete = complete_forecasts.groupby(["symbol", "origin"])["model"].nunique()
    keys = complete[complete == len(shown)].index
    symbols = sorted({symbol for symbol, _ in keys})
    cases = []
    for case in range(min(FAN_CASES, len(keys))):
        symbol = symbols[case * len(symbols) // FAN_CASES]
        origins = sorted(origin for own, origin in keys if own == symbol)
        origin = np.datetime64(origins[(2 * case + 1) * len(origins) // (2 * FAN_CASES)], "s")
        own = complete_forecasts[
            (complete_forecasts["symbol"] == symbol) & (complete_forecasts["origin"] == origin)
        ].set_index("model")["checkpoint"]
        fans = [read_fan(warehouse, histories[symbol], model, own[model], origin) for model in shown]
        cases.append(FanCase(symbol, origin, tuple(fan for fan in fans if fan)))
    return cases


def _with_actuals(forecasts: pd.DataFrame, histories: Mapping[str, BarHistory], horizon: int) -> pd.DataFrame:
    """Forecasts whose target bars all exist; all forecasts where there is none such."""
    enough = {symbol: history.stamps[-1 - min(horizon, len(history) - 1)] for symbol, history in histories.items()}
    done = forecasts["origin"] <= forecasts["symbol"].map(enough)
    return forecasts[done] if done.any() else forecasts


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that the report names."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def code_revision() -> str:
    """The code's git revision, marked `-dirty` with local changes; empty outside a git checkout."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip()
