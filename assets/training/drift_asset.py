"""Before Kronos forecasts: does the input still look like what it learnt from? One asset, one check.

A warning by default; `drift.action = "block"` keeps Kronos from forecasting. Not here: how it is measured (drift).
"""

import json

import dagster as dg
import numpy as np

from assets.forecasts.forecaster import Task
from assets.forecasts.origins import origins_of, select
from assets.market.history import read_histories
from assets.market.universe import wanted_symbols
from assets.metadata import OWNERS, picture, tell_newest
from assets.sessions import sessions_of
from assets.training.drift import Drift, draw, input_digest, input_distances, threshold
from resources.calendar import TradingCalendar
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.layout import Home
from resources.publish import digest_of, publish_bytes
from resources.settings import Settings
from resources.warehouse import Warehouse

CHECK = "input_has_not_drifted"


def drift_asset(sessions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The asset `input_drift` with its check."""

    @dg.asset(
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="forecasts",
        kinds={"pytorch"},
        owners=OWNERS,
        code_version="1",
        deps=["bars", "corporate_actions", "kronos_tokenizer", "kronos_predictor"],
        pool="gpu",
        check_specs=[dg.AssetCheckSpec(CHECK, asset="input_drift", blocking=True)],
    )
    def input_drift(
        context: dg.AssetExecutionContext,
        settings: dg.ResourceParam[Settings],
        home: dg.ResourceParam[Home],
        warehouse: dg.ResourceParam[Warehouse],
        checkpoints: dg.ResourceParam[CheckpointStore],
        calendar: dg.ResourceParam[TradingCalendar],
    ) -> dg.MaterializeResult:
        """How far the tokens of each origin's input are from those of the training set, against a calibrated limit."""
        predictor = checkpoints.current("kronos_predictor")
        if predictor is None:
            raise dg.Failure("no Kronos checkpoint yet: materialise kronos_predictor first", allow_retries=False)
        beyond = threshold(predictor.card, settings.drift.quantile)
        if beyond is None or settings.drift.action == "off":
            return _nothing("switched off" if beyond is not None else "the weights keep no reference to measure by")
        histories = read_histories(warehouse, settings.market.frequency, wanted_symbols(settings))
        origins = origins_of(sessions_of(context), settings, calendar)
        tasks = select(histories, origins, settings.windows.lookback_window).tasks
        measured = _measured(tasks, predictor, settings, home, checkpoints)
        if measured:
            tell_newest(context, {"picture": picture(draw(predictor.card, measured, beyond))})
        return _result(predictor, measured, beyond, settings)

    return input_drift


def _measured(
    tasks: list[Task], predictor: Checkpoint, settings: Settings, home: Home, checkpoints: CheckpointStore
) -> dict[np.datetime64, float]:
    if not tasks:
        return {}
    lookback = settings.windows.lookback_window
    file = home.drift / predictor.digest[:16] / f"{input_digest(tasks, lookback)[:32]}.json"
    if not file.is_file():
        tokenizer = checkpoints.load("kronos_tokenizer", predictor.card["tokenizer"])
        found = input_distances(predictor.card, tokenizer.folder, settings.windows.clip, lookback, tasks)
        publish_bytes(file, json.dumps({str(day): value for day, value in found.items()}).encode())
    return {np.datetime64(day): value for day, value in json.loads(file.read_text()).items()}


def _result(
    predictor: Checkpoint, measured: dict[np.datetime64, float], beyond: float, settings: Settings
) -> dg.MaterializeResult:
    if not measured:
        return _nothing("no symbol can be forecast from these sessions")
    drifts = {day: Drift(value, beyond) for day, value in measured.items()}
    out = [day for day, drift in drifts.items() if drift.drifted]
    newest = drifts[max(drifts)]
    block = settings.drift.action == "block"
    words = f"newest origin: {newest.words}. Beyond it: {len(out)} of {len(drifts)} origins"
    told = {str(day): value for day, value in measured.items()}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of([predictor.digest, beyond, told])),
        metadata={
            "distance": newest.distance,
            "threshold": beyond,
            "origins": len(drifts),
            "drifted": len(out),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK,
                passed=not newest.drifted,
                severity=dg.AssetCheckSeverity.ERROR if block else dg.AssetCheckSeverity.WARN,
                description=words,
            )
        ],
    )


def _nothing(why: str) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of(why)),
        metadata={"measured": why},
        check_results=[dg.AssetCheckResult(check_name=CHECK, passed=True, description=why)],
    )
