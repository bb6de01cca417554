"""The forecast stage in Dagster: three assets of one kind, the baselines, Kronos and Chronos-2.

https://docs.dagster.io/guides/build/assets. Belongs here: what depends on what, and what a person sees of it. Not
here: which origins there are (origins), how a model forecasts (one module each), how forecasts are kept (store).

A session's partition holds the forecasts whose origin is that session, if it is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import dagster as dg
import numpy as np
import pandas as pd
from pydantic import Field

from assets.forecasting.drift_gate import withheld
from assets.forecasting.origins import Selection, origins_of, select
from assets.forecasting.plots import calibration_chart, fan_chart, read_fan, telling_forecasts
from assets.forecasting.registry import Family, forecasters_of
from assets.forecasts import acceptance as checks
from assets.forecasts.drift_asset import drift_asset
from assets.forecasts.findings import BLOCKING, Check, Finding, findings
from assets.forecasts.generate import ForecastRoom, Made, make_forecasts
from assets.market.history import History, read_histories
from assets.market.universe import wanted_symbols
from assets.metadata import OWNERS, picture, progress_in, schema, table, tell_newest
from assets.sessions import sessions_of
from resources.candlecast import Candlecast
from resources.publish import digest_of

GROUP = "forecasts"
COLUMNS = {
    "model": "string",
    "checkpoint": "string, weights and recipe",
    "symbol": "string",
    "origin": "timestamp, UTC, the last bar seen",
    "made_at": "timestamp, UTC",
    "step": "integer, 1 … horizon",
    "target_ts": "timestamp, UTC, from the calendar",
    "field": "string",
    "level": "double",
    "value": "double, in prices as quoted at the origin",
    "in_sample": "boolean",
}
SHOWN = 4


@dataclass(frozen=True)
class Stage:
    """One asset of forecasts: what it is made from, and what a person reads of it."""

    family: Family
    description: str
    kinds: set[str]
    needs: tuple[str, ...] = ()
    pool: str = "gpu"


class ForecastConfig(dg.Config):
    """What one run may narrow."""

    symbols: list[str] = Field([], description="only these; none: all")


STAGES = (
    Stage(
        "baseline_forecasts",
        "Quantiles of the close by random walk (252-day and EWMA volatility), drift and momentum, in closed form. "
        "A model that does not beat them knows nothing.",
        {"duckdb"},
        pool="warehouse",
    ),
    Stage(
        "kronos_forecasts",
        "Kronos' forecasts: sample paths of whole bars in Parquet, and their quantiles of all six fields in DuckDB.",
        {"duckdb", "parquet", "pytorch"},
        needs=("kronos_tokenizer", "kronos_predictor", "input_drift"),
    ),
    Stage(
        "chronos2_forecasts",
        "Chronos-2's forecasts: quantiles of the close from its log, sorted where they cross.",
        {"duckdb", "pytorch"},
        needs=("chronos2_model",),
    ),
)


def build_assets(sessions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """input_drift, baseline_forecasts, kronos_forecasts and chronos2_forecasts, each with its checks."""
    return [drift_asset(sessions), *(_forecasts(stage, sessions) for stage in STAGES)]


def _forecasts(stage: Stage, sessions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        name=stage.family,
        description=stage.description,
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        kinds=stage.kinds,
        owners=OWNERS,
        code_version="1",
        deps=["bars", "corporate_actions", *stage.needs],
        pool=stage.pool,
        check_specs=[_spec(stage.family, check) for check in get_args(Check)],
    )
    def forecasts(
        context: dg.AssetExecutionContext, config: ForecastConfig, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        settings, checkpoints, calendar = candlecast.settings, candlecast.checkpoints, candlecast.calendar
        room = ForecastRoom(settings, candlecast.warehouse, candlecast.home, calendar)
        origins = origins_of(sessions_of(context), settings, calendar)
        held = _withheld(stage.family, candlecast, origins)
        symbols = config.symbols or wanted_symbols(settings)
        histories = read_histories(candlecast.warehouse, settings.market.frequency, symbols)
        selection = select(histories, origins, settings.windows.lookback_window, held)
        tell = progress_in(context, stage.family)
        made = [
            make_forecasts(room, forecaster, selection.tasks, tell)
            for forecaster in forecasters_of(stage.family, settings, checkpoints)
        ]
        return _result(context, room, made, selection, histories)

    return forecasts


def _withheld(family: Family, candlecast: Candlecast, origins: Sequence[np.datetime64]) -> dict[np.datetime64, str]:
    """What `input_drift` found that this family is not to forecast from."""
    used = candlecast.checkpoints.current("kronos_predictor") if family == "kronos_forecasts" else None
    return (
        withheld(candlecast.home, used.digest, origins) if used and candlecast.settings.drift.action == "block" else {}
    )


def _result(
    context: dg.AssetExecutionContext,
    room: ForecastRoom,
    made: Sequence[Made],
    selection: Selection,
    histories: dict[str, History],
) -> dg.MaterializeResult:
    origins = sorted({task.origin for task in selection.tasks})
    runs = [checks.Run(one.forecaster, origins) for one in made]
    frequency = room.settings.market.frequency
    calibrated = {run.forecaster.model: checks.calibration(room.warehouse, run, frequency) for run in runs}
    contents = [checks.content(room.warehouse, run) for run in runs]
    tell_newest(context, _seen(room, made, selection, histories, origins, calibrated))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of([[one.forecaster.checkpoint for one in made], contents])),
        metadata={"dagster/row_count": sum(rows for rows, _ in contents)},
        check_results=[_check_result(one) for one in findings(room, made, selection.tasks, calibrated)],
    )


def _seen(
    room: ForecastRoom,
    made: Sequence[Made],
    selection: Selection,
    histories: dict[str, History],
    origins: list[np.datetime64],
    calibrated: dict[str, pd.DataFrame],
) -> dict[str, Any]:
    """What a person sees on the asset's page."""
    metadata: dict[str, Any] = {
        "dagster/column_schema": schema(COLUMNS),
        "origins": len(origins),
        "first_origin": str(origins[0]),
        "last_origin": str(origins[-1]),
        "skipped": dict(selection.skipped),
        "models": table(pd.DataFrame([_row(room, one, origins, calibrated) for one in made])),
        "fans": picture(fan_chart(_fans(room, made, histories, origins))),
    }
    happened = {model: frame for model, frame in calibrated.items() if len(frame)}
    if happened:
        metadata["calibration"] = picture(calibration_chart(happened))
    return metadata


def _row(
    room: ForecastRoom, one: Made, origins: list[np.datetime64], calibrated: dict[str, pd.DataFrame]
) -> dict[str, object]:
    forecaster = one.forecaster
    covered = checks.coverage(calibrated[forecaster.model])
    return {
        "model": forecaster.model,
        "checkpoint": forecaster.checkpoint,
        "made": one.made,
        "there before": one.there_before,
        "in sample": sum(forecaster.in_sample(origin) for origin in origins),
        "corrected": checks.corrected(room.warehouse, checks.Run(forecaster, origins)),
        "80 % band covers": covered.get(0.8, float("nan")),
        "90 % band covers": covered.get(0.9, float("nan")),
    }


def _fans(
    room: ForecastRoom, made: Sequence[Made], histories: dict[str, History], origins: list[np.datetime64]
) -> list:
    """One model: some symbols of one origin. Several: the first symbol by each."""
    each = SHOWN if len(made) == 1 else 1
    fans = []
    for one in made:
        forecaster = one.forecaster
        named = (forecaster.model, forecaster.checkpoint)
        for symbol, origin in telling_forecasts(room.warehouse, histories, *named, origins, each):
            fans.append(read_fan(room.warehouse, histories[symbol], *named, origin, forecaster.in_sample(origin)))
    return [fan for fan in fans if fan is not None]


def _spec(family: Family, check: Check) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(check, asset=family, blocking=check in BLOCKING, description=check.replace("_", " "))


def _check_result(finding: Finding) -> dg.AssetCheckResult:
    blocking = finding.check in BLOCKING
    return dg.AssetCheckResult(
        check_name=finding.check,
        passed=finding.passed,
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        description=finding.words,
    )
