"""Before Kronos forecasts: does the input still look like what it learnt from? One asset, one check.

A warning by default; `drift.action = "block"` keeps Kronos from forecasting from those origins, whatever else a run
holds. Not here: how it is measured (drift).
"""

import json
from collections import Counter

import dagster as dg
import numpy as np

from assets.forecasting.drift import Drift, Limits, draw, input_digest, input_distances, limits
from assets.forecasting.drift_gate import write_withheld
from assets.forecasting.forecaster import Task
from assets.forecasting.origins import origins_of, select
from assets.market.history import read_histories
from assets.market.universe import wanted_symbols
from assets.metadata import OWNERS, picture, tell_newest
from assets.sessions import sessions_of
from resources.candlecast import Candlecast
from resources.checkpoints import Checkpoint
from resources.publish import digest_of, publish_bytes

CHECK = "input_has_not_drifted"
NAMED = 5


def drift_asset(sessions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """The asset `input_drift` with its check."""

    @dg.asset(
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="forecasts",
        kinds={"pytorch"},
        owners=OWNERS,
        code_version="2",
        deps=["bars", "corporate_actions", "kronos_tokenizer", "kronos_predictor"],
        pool="gpu",
        check_specs=[dg.AssetCheckSpec(CHECK, asset="input_drift", blocking=True)],
    )
    def input_drift(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        """How far the tokens of each origin's input are from those of the training set, against a calibrated limit."""
        settings = candlecast.settings
        predictor = candlecast.checkpoints.current("kronos_predictor")
        if predictor is None:
            raise dg.Failure("no Kronos checkpoint yet: materialise kronos_predictor first", allow_retries=False)
        action = settings.drift.action
        if action == "off":
            return _nothing("switched off")
        allowed = limits(predictor.card, settings.drift.quantile)
        if isinstance(allowed, str):
            return _nothing(allowed, passed=action != "block")
        histories = read_histories(candlecast.warehouse, settings.market.frequency, wanted_symbols(settings))
        origins = origins_of(sessions_of(context), settings, candlecast.calendar)
        tasks = select(histories, origins, settings.windows.lookback_window).tasks
        drifts = _drifts(tasks, predictor, allowed, candlecast)
        blocks = {day: drift.words if action == "block" and drift.drifted else None for day, drift in drifts.items()}
        write_withheld(candlecast.home, predictor.digest, blocks)
        symbols = len({task.symbol for task in tasks})
        tell_newest(context, {"picture": picture(draw(predictor.card, drifts, symbols))})
        return _result(predictor, drifts, block=action == "block")

    return input_drift


def _drifts(
    tasks: list[Task], predictor: Checkpoint, allowed: Limits, candlecast: Candlecast
) -> dict[np.datetime64, Drift]:
    """By origin, oldest first."""
    settings = candlecast.settings
    lookback = settings.windows.lookback_window
    file = candlecast.home.drift / predictor.digest[:16] / f"{input_digest(tasks, lookback)[:32]}.json"
    if not file.is_file():
        tokenizer = candlecast.checkpoints.load("kronos_tokenizer", predictor.card["tokenizer"])
        found = input_distances(predictor.card, tokenizer.folder, settings.windows.clip, lookback, tasks)
        publish_bytes(file, json.dumps({str(day): value for day, value in found.items()}).encode())
    measured = {np.datetime64(day): value for day, value in json.loads(file.read_text()).items()}
    symbols = Counter(task.origin for task in tasks)
    return {day: Drift(measured[day], allowed.of(symbols[day])) for day in sorted(measured)}


def _result(predictor: Checkpoint, drifts: dict[np.datetime64, Drift], block: bool) -> dg.MaterializeResult:
    out = [day for day, drift in drifts.items() if drift.drifted]
    newest = drifts[max(drifts)]
    words = f"newest origin: {newest.words}. Beyond it: {len(out)} of {len(drifts)} origins"
    if block and out:
        words += f"; Kronos forecasts from none of these: {', '.join(map(str, out[:NAMED]))}{' …' * (len(out) > NAMED)}"
    # Where some origins may be forecast, the run goes on with those.
    stops = block and len(out) == len(drifts)
    told = {str(day): [drift.distance, drift.threshold] for day, drift in drifts.items()}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of([predictor.digest, block, told])),
        metadata={
            "distance": newest.distance,
            "threshold": newest.threshold,
            "origins": len(drifts),
            "drifted": len(out),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK,
                passed=not (out if block else newest.drifted),
                severity=dg.AssetCheckSeverity.ERROR if stops else dg.AssetCheckSeverity.WARN,
                description=words,
            )
        ],
    )


def _nothing(why: str, passed: bool = True) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of(why)),
        metadata={"measured": why},
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK,
                passed=passed,
                severity=dg.AssetCheckSeverity.ERROR,
                description=why if passed else f"drift.action is block, but {why}; or set drift.action",
            )
        ],
    )
