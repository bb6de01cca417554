"""The assets of the forecasts stage: input drift, embeddings, and the forecasts of the built-in and other models.

https://docs.dagster.io/guides/build/assets. Belongs here: dependencies and metadata. Not here: which origins there are
(forecasting.origins), how a model forecasts (forecasting), how forecasts are stored (store), and the checks (checks).

The partition of a session holds the forecasts whose origin is that session, if it is an origin. Modules that compute
are imported inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Mapping, Sequence, Set
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from assets.forecasts.catalogue import ForecastAsset, all_forecast_assets
from assets.forecasts.checks import COVERAGE, EARLIER_ORIGINS, check_result, check_specs
from assets.forecasts.drift_asset import drift_asset
from assets.forecasts.embeddings_asset import embeddings_asset
from assets.metadata import (
    OWNERS,
    add_session_contents,
    add_to_newest_partition,
    chart,
    column_lineage,
    logged_progress,
    schema,
    table,
)
from assets.sessions import Vintages, sessions_of, vintage_deps, vintage_partitions
from resources.candlecast import Candlecast
from resources.derived_models import ANCHORED
from resources.publish import digest_of
from resources.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from assets.forecasting.forecaster import ForecastModel
    from assets.forecasting.origins import TaskSelection
    from assets.forecasting.plots import Fan
    from assets.forecasts.generate import ForecastResult
    from assets.forecasts.summary import ContentByOrigin
    from assets.market.history import BarHistory

GROUP = "forecasts"
FORECAST_COLUMNS = schema(
    {
        "model": ("string", ""),
        "checkpoint": ("string", "digest of weights and recipe"),
        "symbol": ("string", ""),
        "origin": ("timestamp", "UTC, the last bar that the forecast used"),
        "made_at": ("timestamp", "UTC, when the forecast was written"),
        "step": ("integer", "1 … horizon"),
        "target_ts": ("timestamp", "UTC, the bar that is forecast, from the exchange calendar"),
        "field": ("string", "open, high, low, close, volume, amount, or range: log of high / low"),
        "level": ("double", "quantile level"),
        "value": ("double", "quantile, in prices as quoted at the origin"),
        "in_sample": ("boolean", "the origin is not after the cutoff of the checkpoint"),
    }
)
SHOWN, MOST_FANS = 4, 8


class ForecastConfig(dg.Config):
    """Run configuration of the forecasts."""

    symbols: list[str] = Field([], description="forecast these symbols alone; empty: all")


def build_assets(
    settings: Settings, sessions: dg.DailyPartitionsDefinition
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """input_drift, embeddings and the assets of forecasts, each with its checks."""
    vintages = vintage_partitions(settings)
    return [
        drift_asset(sessions, vintages),
        embeddings_asset(sessions, vintages),
        *(_forecasts(asset, sessions, vintages) for asset in all_forecast_assets(settings)),
    ]


def _forecasts(
    asset: ForecastAsset, sessions: dg.DailyPartitionsDefinition, vintages: Vintages | None
) -> dg.AssetsDefinition:
    @dg.asset(
        name=asset.name,
        description=asset.description,
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        kinds=asset.kinds,
        owners=OWNERS,
        code_version="1",
        deps=["bars", "corporate_actions", *asset.needs, *asset.derived_from, *vintage_deps(asset.models, vintages)],
        pool=asset.pool,
        op_tags={"dagster/priority": str(asset.priority)} if asset.priority else None,
        check_specs=check_specs(asset.name, bool(asset.derived_from)),
    )
    # Not MaterializeResult[None]: Dagster takes a parametrised annotation of an asset with checks for one output.
    def forecasts(
        context: dg.AssetExecutionContext, config: ForecastConfig, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from assets.forecasting.chronos2.sources import events_table
        from assets.forecasting.drift_gate import blocked_by_drift
        from assets.forecasting.origins import origin_timestamps, select_tasks, without_blocked
        from assets.forecasting.registry import forecasters_by_task
        from assets.forecasts.ahead import ask_networks, learn_ahead
        from assets.forecasts.generate import generate_all
        from assets.market.history import read_histories, stored_histories
        from assets.market.selection import source_filter

        settings = candlecast.settings
        origins = origin_timestamps(sessions_of(context), settings, candlecast.calendar)
        reads_kronos = "kronos_forecasts" in (asset.name, *asset.derived_from)
        blocked = blocked_by_drift(candlecast, sessions_of(context)) if reads_kronos else {}
        if config.symbols:
            sources, frequency = source_filter(settings, candlecast.warehouse), settings.market.frequency
            histories: Mapping[str, BarHistory] = read_histories(
                candlecast.warehouse, frequency, config.symbols, sources=sources
            )
        else:
            histories = stored_histories(settings)
        unread = {} if asset.derived_from else blocked
        selection = select_tasks(histories, origins, settings.windows.lookback_window, unread)
        progress = logged_progress(context, asset.name)
        run = {key.to_user_string() for key in context.job_def.asset_layer.selected_asset_keys}
        if asset.name == "baseline_forecasts":  # the first of a run, and without networks
            ask_networks(candlecast, run, selection.tasks)
        found = forecasters_by_task(asset.name, settings, candlecast.checkpoints, selection.tasks)
        learn_ahead(candlecast, run, asset.name, {model.model for model, _ in found})
        if asset.derived_from:
            found, selection = without_blocked(found, selection, blocked)
        results = generate_all(candlecast, found, progress)
        read = asset.reading([forecaster.recipe for forecaster, _ in found], events_table(settings))
        lineage = {"dagster/column_lineage": column_lineage(read.sources), "reads": ", ".join(read.sources["value"])}
        add_to_newest_partition(context, lineage)
        with candlecast.warehouse.shared_reads():
            return _result(context, candlecast, asset, results, selection, histories)

    return forecasts


def _result(
    context: dg.AssetExecutionContext,
    candlecast: Candlecast,
    asset: ForecastAsset,
    results: "Sequence[ForecastResult]",
    selection: "TaskSelection",
    histories: "Mapping[str, BarHistory]",
) -> dg.MaterializeResult[None]:
    from assets.forecasting.origins import first_origin
    from assets.forecasts.acceptance import check_forecasts
    from assets.forecasts.summary import calibrations, contents_by_origin, judged, not_made_text, total_content

    origins = sorted({task.origin for task in selection.tasks})
    runs = [one.range for one in results]
    frequency = candlecast.settings.market.frequency
    found = calibrations(candlecast.warehouse, [judged(run) for run in runs], frequency)
    calibrated = {run.forecaster.name: one for run, one in zip(runs, found, strict=True)}
    contents = contents_by_origin(candlecast.warehouse, runs)
    metadata = _metadata(candlecast, results, selection, histories, calibrated)
    outcomes = check_forecasts(candlecast, results, calibrated)
    derived = _derived_results(candlecast, asset.name, results, histories, metadata) if asset.derived_from else []
    first, every = first_origin(candlecast.settings), candlecast.settings.forecasts.every
    not_made = not_made_text(sessions_of(context), len(origins), first, every, selection.skipped)
    add_to_newest_partition(context, metadata | {"not_made": not_made})
    _add_contents(context, candlecast, results, contents)
    # Stored forecasts stay when the market or an event is corrected: the data version shows that they would differ.
    read = [digest for one in results for digest in one.forecaster.data(max(origins))]
    made_of = [
        [one.forecaster.checkpoint for one in results],
        [total_content(one) for one in contents],
        *([read] if read else []),
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of(made_of)),
        check_results=[
            *(check_result(name, one) for name, one in outcomes.items()),
            *derived,
        ],
    )


def _derived_results(
    candlecast: Candlecast,
    asset: str,
    results: "Sequence[ForecastResult]",
    histories: "Mapping[str, BarHistory]",
    metadata: dict[str, Any],
) -> list[dg.AssetCheckResult]:
    """The results of the checks of derived forecasts alone; what they were learnt from is added to the metadata."""
    from assets.forecasting.registry import models_of
    from assets.forecasts.earlier_origins import check_earlier_origins, learnt_by_model, learnt_origins, learnt_text

    origins = learnt_origins(candlecast.warehouse, results)
    if len(learnt := learnt_by_model(results, origins)):
        metadata["learnt"] = table(learnt)
    if text := learnt_text(results, origins):
        metadata["result"] = text
    models = models_of(asset, candlecast.settings, candlecast.checkpoints)
    outcome = check_earlier_origins(candlecast, models, results, histories, origins)
    own = {origin for one in results for origin in one.range.origins}
    return [check_result(EARLIER_ORIGINS.name, outcome), _coverage_result(candlecast, asset, models, own)]


def _coverage_result(
    candlecast: Candlecast, asset: str, models: "Sequence[ForecastModel]", own: "Set[np.datetime64]"
) -> dg.AssetCheckResult:
    """The check of the coverage of an asset's recalibrated forecasts or combinations, of all stored origins."""
    from assets.forecasting.registry import checkpoints_by_model
    from assets.forecasts.coverage import bounds_of, check_bounds, coverage_by_period, without_unlearnt
    from assets.forecasts.kept_coverage import kept_coverage

    settings = candlecast.settings
    bounds = bounds_of(settings.forecasts.levels, settings.forecasts.coverage_bounds)
    used = checkpoints_by_model(models)
    checked = {model: one for model, one in used.items() if not model.endswith(ANCHORED)}
    file = candlecast.home.learnt / f"{asset}.coverage"
    by_origin, left_out = without_unlearnt(kept_coverage(candlecast, checked, bounds, file, own))
    coverage = coverage_by_period(by_origin, bounds, settings.evaluation, settings.seed)
    outcome = check_bounds(coverage, bounds, settings.forecasts.coverage == "block", left_out)
    tables = {"coverage": coverage, "left_out": left_out}
    return check_result(COVERAGE.name, outcome, {name: table(one) for name, one in tables.items() if len(one)})


def _add_contents(
    context: dg.AssetExecutionContext,
    candlecast: Candlecast,
    results: "Sequence[ForecastResult]",
    by_origin: "Sequence[ContentByOrigin]",
) -> None:
    """The content of each session: no rows where it is no origin, or no symbol could be forecast from it."""
    found = [(one.forecaster.checkpoint, own) for one, own in zip(results, by_origin, strict=True)]
    contents: dict[date, tuple[int, str]] = {}
    for session in sessions_of(context):
        origin = candlecast.calendar.stamps(session, session)[-1].to_pydatetime().replace(tzinfo=None)
        own = [(checkpoint, *by_origin[origin]) for checkpoint, by_origin in found if origin in by_origin]
        if own:
            contents[session] = sum(rows for _, rows, _ in own), digest_of(own)
    add_session_contents(context, contents, sessions_of(context))


def _metadata(
    candlecast: Candlecast,
    results: "Sequence[ForecastResult]",
    selection: "TaskSelection",
    histories: "Mapping[str, BarHistory]",
    calibrated: "dict[str, pd.DataFrame]",
) -> dict[str, Any]:
    import pandas as pd

    from assets.forecasting.plots import before_after_chart, calibration_chart, fan_chart
    from assets.forecasts.summary import (
        about_models,
        before_and_after,
        costs_by_model,
        failed_forecasts,
        fallback_forecasts,
        run_by_model,
    )

    origins = sorted({task.origin for task in selection.tasks})
    metadata: dict[str, Any] = {
        "dagster/column_schema": FORECAST_COLUMNS,
        "origins": len(origins),
        "first_origin": str(origins[0]),
        "last_origin": str(origins[-1]),
        "skipped": table(pd.DataFrame(selection.skipped.items(), columns=["reason", "forecasts"])),
        "models": table(run_by_model(candlecast, results, calibrated)),
        "about": table(about_models(results)),
        **costs_by_model(results),
    }
    for name, frame in {"failed": failed_forecasts(results), "fallbacks": fallback_forecasts(results)}.items():
        if len(frame):
            metadata[name] = table(frame)
    if fans := _fans(candlecast, results, histories):
        metadata["fans"] = chart(candlecast.home, fan_chart, fans)
    pairs = before_and_after(candlecast.warehouse, results, calibrated, candlecast.settings.market.frequency)
    if pairs:
        metadata["calibration"] = chart(candlecast.home, before_after_chart, pairs)
    elif with_actuals := {model: frame for model, frame in calibrated.items() if len(frame)}:
        metadata["calibration"] = chart(candlecast.home, calibration_chart, with_actuals)
    return metadata


def _fans(
    candlecast: Candlecast, results: "Sequence[ForecastResult]", histories: "Mapping[str, BarHistory]"
) -> "list[Fan]":
    """One model: some symbols of one origin. Several models: the first symbol by each of the first MOST_FANS. Of
    vintages: the newest."""
    from assets.forecasting.plots import example_forecasts, read_fan

    newest = list({one.forecaster.model: one for one in results if one.created or one.existing}.values())[:MOST_FANS]
    each = SHOWN if len(newest) == 1 else 1
    fans = []
    for one in newest:
        forecaster, origins = one.forecaster, one.range.origins
        named = (forecaster.model, forecaster.checkpoint)
        for symbol, origin in example_forecasts(candlecast.warehouse, histories, *named, origins, each):
            fans.append(read_fan(candlecast.warehouse, histories[symbol], *named, origin, forecaster.in_sample(origin)))
    return [fan for fan in fans if fan is not None]
