"""The asset `input_drift`: whether the input of Kronos still resembles its training set, by origin.

A warning by default; `drift.action = "block"` keeps Kronos from forecasting from those origins. Not here: how drift is
measured (forecasting.drift), and where the distances are kept (drift_distances).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from assets.metadata import OWNERS, add_session_contents, add_to_newest_partition, chart
from assets.sessions import Vintages, sessions_of, vintage_deps
from resources.candlecast import Candlecast
from resources.checkpoints import Checkpoint
from resources.publish import digest_of

if TYPE_CHECKING:
    import numpy as np

    from assets.forecasting.drift import InputDrift

CHECK = "input_has_not_drifted"
NAMED = 5


def drift_asset(sessions: dg.DailyPartitionsDefinition, vintages: Vintages | None = None) -> dg.AssetsDefinition:
    """The asset `input_drift` with its check."""

    @dg.asset(
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="forecasts",
        kinds={"pytorch"},
        owners=OWNERS,
        code_version="2",
        deps=["bars", "corporate_actions", *vintage_deps(("kronos_tokenizer", "kronos_predictor"), vintages)],
        pool="gpu",
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset="input_drift",
                blocking=True,
                description="The distance of the input's tokens from those of the training set is within its limit.",
            )
        ],
    )
    # Not MaterializeResult[None]: Dagster takes a parametrised annotation of an asset with checks for one output.
    def input_drift(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """Distance of the tokens of each origin's input from those of the training set, with a calibrated limit."""
        from assets.forecasting.drift import InputDrift, drift_limits
        from assets.forecasting.drift_gate import write_blocked_origins
        from assets.forecasting.model_vintages import tasks_by_vintage
        from assets.forecasting.origins import origin_timestamps, select_tasks
        from assets.forecasts.drift_distances import InputDistances
        from assets.market.history import stored_histories

        settings, action = candlecast.settings, candlecast.settings.drift.action
        if action == "off":
            return not_measured("switched off")
        histories = stored_histories(settings)
        origins = origin_timestamps(sessions_of(context), settings, candlecast.calendar)
        tasks = select_tasks(histories, origins, settings.windows.lookback_window).tasks
        found: list[tuple[Checkpoint, dict[np.datetime64, InputDrift]]] = []
        for vintage, own in tasks_by_vintage(settings, tasks).items():
            predictor = candlecast.checkpoints.at(vintage).current("kronos_predictor")
            if predictor is None:
                of = f" of the vintage {vintage}" if vintage else ""
                raise dg.Failure(
                    f"no Kronos checkpoint{of} yet: materialise kronos_predictor first", allow_retries=False
                )
            allowed = drift_limits(predictor.card, settings.drift.quantile)
            if isinstance(allowed, str):
                return not_measured(allowed, passed=action != "block")
            distances = InputDistances(candlecast, predictor, own)
            symbols, measured = Counter(task.origin for task in distances.tasks), distances.measured()
            drifts = {day: InputDrift(measured[day], allowed.of(symbols[day])) for day in sorted(measured)}
            reasons = {day: drift.description if drift.drifted else None for day, drift in drifts.items()}
            blocks = reasons if action == "block" else dict.fromkeys(drifts)
            write_blocked_origins(candlecast.home, predictor.digest, blocks)
            found.append((predictor, drifts))
        newest, drifts = found[-1]
        every = len({task.symbol for task in tasks})
        add_to_newest_partition(context, {"picture": _picture(candlecast, newest, drifts, every)})
        _add_contents(context, candlecast, found)
        return _result(found, block=action == "block")

    return input_drift


def _picture(
    candlecast: Candlecast, predictor: Checkpoint, drifts: "dict[np.datetime64, InputDrift]", symbols: int
) -> dg.MarkdownMetadataValue:
    """The distances by origin, beside those of the validation range of the predictor for about as many symbols."""
    import numpy as np

    from assets.forecasting.drift import drift_chart, validation_distances

    distances, limits = np.array([(one.distance, one.threshold) for one in drifts.values()]).T
    others = validation_distances(predictor.card, symbols)
    return chart(candlecast.home, drift_chart, others, np.array(list(drifts)), distances, limits)


def _add_contents(
    context: dg.AssetExecutionContext,
    candlecast: Candlecast,
    found: "Sequence[tuple[Checkpoint, dict[np.datetime64, InputDrift]]]",
) -> None:
    """One distance per session that is an origin, with its version."""
    sessions = sessions_of(context)
    stamps = {session: candlecast.calendar.stamps(session, session) for session in sessions}
    ends = {own[-1].to_datetime64().astype("datetime64[s]"): day for day, own in stamps.items() if len(own)}
    contents = {
        ends[origin]: (1, digest_of([predictor.digest, drift.distance, drift.threshold]))
        for predictor, drifts in found
        for origin, drift in drifts.items()
    }
    add_session_contents(context, contents, sessions)


def _result(
    found: "Sequence[tuple[Checkpoint, dict[np.datetime64, InputDrift]]]", block: bool
) -> dg.MaterializeResult[None]:
    predictors = [predictor.digest for predictor, _ in found]
    drifts = {day: drift for _, own in found for day, drift in own.items()}
    drifted = [day for day, drift in drifts.items() if drift.drifted]
    newest = drifts[max(drifts)]
    description = f"newest origin: {newest.description}. Above the limit: {len(drifted)} of {len(drifts)} origins"
    if block and drifted:
        named = ", ".join(map(str, drifted[:NAMED])) + " …" * (len(drifted) > NAMED)
        description += f"; blocked for Kronos: {named}"
    # Only a run whose every origin is blocked stops; otherwise the other origins are forecast.
    stops = block and len(drifted) == len(drifts)
    content = {str(day): [drift.distance, drift.threshold] for day, drift in drifts.items()}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of([*predictors, block, content])),
        metadata={
            "distance": newest.distance,
            "threshold": newest.threshold,
            "origins": len(drifts),
            "drifted": len(drifted),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK,
                passed=not (drifted if block else newest.drifted),
                severity=dg.AssetCheckSeverity.ERROR if stops else dg.AssetCheckSeverity.WARN,
                description=description,
            )
        ],
    )


def not_measured(reason: str, passed: bool = True) -> dg.MaterializeResult[None]:
    """The result where drift was not measured; the check fails only where a drifted origin would have been blocked."""
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of(reason)),
        metadata={"not_measured": reason},
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK,
                passed=passed,
                severity=dg.AssetCheckSeverity.ERROR,
                description=reason if passed else f"drift.action is block, but {reason}; or set drift.action",
            )
        ],
    )
