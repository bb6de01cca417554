"""The asset `embeddings`: hidden states of Kronos and Chronos-2 per symbol and origin, as features for other models.

Made by request (`candlecast backfill --assets embeddings`), and by the daily run with `embeddings.daily = true`. Not
here: what a vector is (forecasting.embedders), and how it is stored (embeddings).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from assets.metadata import OWNERS, add_session_contents, add_to_newest_partition, logged_progress, schema, table
from assets.sessions import Vintages, sessions_of, vintage_deps
from resources.candlecast import Candlecast
from resources.publish import digest_of

if TYPE_CHECKING:
    from assets.forecasts.embeddings import EmbeddingResult

GROUP = "embeddings"
CHECK = "no_lookahead"
MODELS = ("kronos_tokenizer", "kronos_predictor", "chronos2_model")
COLUMNS = schema(
    {
        "model": ("string", "kronos or chronos2"),
        "checkpoint": ("string", "digest of weights and recipe"),
        "symbol": ("string", ""),
        "origin": ("timestamp", "UTC, the last bar that the model read"),
        "in_sample": ("boolean", "the origin is not after the cutoff of the checkpoint"),
        "embedding": ("float[]", "hidden state, as long as the model is wide"),
    }
)


def embeddings_asset(sessions: dg.DailyPartitionsDefinition, vintages: Vintages | None = None) -> dg.AssetsDefinition:
    """The asset `embeddings` with its check."""

    @dg.asset(
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        kinds={"parquet", "pytorch"},
        owners=OWNERS,
        code_version="1",
        deps=["bars", "corporate_actions", *vintage_deps(MODELS, vintages)],
        pool="gpu",
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset="embeddings",
                blocking=True,
                description="Changing every bar after the origin changes no embedding. Of those made in this run.",
            )
        ],
    )
    # Not MaterializeResult[None]: Dagster takes a parametrised annotation of an asset with checks for one output.
    def embeddings(context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """Hidden states of the models per symbol and origin, in Parquet: features for models of your own."""
        from assets.forecasting.embedders import embedder
        from assets.forecasting.model_vintages import tasks_by_vintage
        from assets.forecasting.origins import origin_timestamps, select_tasks
        from assets.forecasts.embeddings import create_embeddings
        from assets.market.history import stored_histories

        settings = candlecast.settings
        origins = origin_timestamps(sessions_of(context), settings, candlecast.calendar)
        histories = stored_histories(settings)
        tasks = select_tasks(histories, origins, settings.windows.lookback_window).tasks
        progress = logged_progress(context, "embeddings")
        results = [
            create_embeddings(
                candlecast.home,
                embedder(model, settings, candlecast.checkpoints.at(vintage), settings.embeddings.pooling),
                own,
                progress,
            )
            for vintage, own in tasks_by_vintage(settings, tasks).items()
            for model in settings.embeddings.models
        ]
        return _result(context, candlecast, results)

    return embeddings


def _result(
    context: dg.AssetExecutionContext, candlecast: Candlecast, results: "Sequence[EmbeddingResult]"
) -> dg.MaterializeResult[None]:
    import pandas as pd

    from assets.forecasts.embeddings import check_future

    digests = [(one, one.digests()) for one in results]
    rows = pd.DataFrame(
        {
            "model": one.embedder.model,
            "checkpoint": one.embedder.checkpoint,
            "dimensions": one.dimensions,
            "origins": len(one.files),
            "embeddings": sum(one.rows.values()),
            "created": len(one.created),
            "in sample": sum(map(one.embedder.in_sample, one.files)),
            "newest file": one.files[max(one.files)].relative_to(candlecast.home.root).as_posix(),
            "digest": files[max(files)],
        }
        for one, files in digests
    )
    add_to_newest_partition(context, {"dagster/column_schema": COLUMNS, "models": table(rows)})
    contents = {}
    for session in sessions_of(context):
        origin = candlecast.calendar.stamps(session, session)[-1].to_datetime64().astype("datetime64[s]")
        own = [(one.rows[origin], files[origin]) for one, files in digests if origin in files]
        if own:
            contents[session] = sum(count for count, _ in own), digest_of([digest for _, digest in own])
    add_session_contents(context, contents, sessions_of(context))
    outcomes = [check_future(one) for one in results]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest_of([sorted(files.values()) for _, files in digests])),
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK,
                passed=all(one.passed for one in outcomes),
                severity=dg.AssetCheckSeverity.ERROR,
                description="; ".join(one.description for one in outcomes),
            )
        ],
    )
