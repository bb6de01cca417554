"""The assets of the training stage: training windows, the two Kronos models, Chronos-2 and the volatility model.

https://docs.dagster.io/guides/build/assets. Belongs here: dependencies and metadata. Not here: how windows are cut
(data), how a checkpoint is built (build_checkpoint) and promoted (model_selection), and the checks (checks).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.metadata import OWNERS, chart, logged_progress, schema, table
from assets.sessions import Vintages, sessions_before, vintage_of_run
from assets.training.checks import build_checks
from resources.candlecast import Candlecast
from resources.checkpoints import Kind
from resources.integrity import keep_if_intact
from resources.layout import Home
from resources.publish import publishing_folder

if TYPE_CHECKING:
    from assets.training.data.current_windows import TrainingWindows
    from assets.training.data.windows import WindowSet

GROUP = "training"
WINDOW_COLUMNS = schema(
    {
        "symbol": ("string", ""),
        "bars": ("bigint", "bars in the training, validation and test ranges"),
        "train": ("bigint", "windows of the training range"),
        "validation": ("bigint", "windows of the validation range"),
        "test": ("bigint", "windows of the test range"),
        "origins": ("bigint", "origins of the test range"),
        "note": ("string", "why a symbol has no windows"),
    }
)


def build_assets(
    sessions: dg.DailyPartitionsDefinition, vintages: Vintages | None = None
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """The assets and checks. They are partitioned by vintage, if there are vintages, and never by session.

    A checkpoint is fitted to all sessions up to its cutoff.
    """
    builders = (_training_windows, _kronos_tokenizer, _kronos_predictor, _chronos2_model, _volatility_model)
    return [*(build(vintages) for build in builders), *build_checks()]


def _training_windows(vintages: Vintages | None) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=vintages,
        group_name=GROUP,
        kinds={"numpy"},
        owners=OWNERS,
        code_version="1",  # assets.training.data.windows.WINDOWS_VERSION
        deps=[*sessions_before(["bars"], vintages), "corporate_actions"],
    )
    def training_windows(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """Training and validation windows: memory-mapped bars, and the index at which each window starts.

        No bar after `windows.cutoff` is in them; the ranges share no bar, with a purge and an embargo between them.
        """
        from assets.training.data.current_windows import set_current_windows
        from assets.training.data.dataset import write_arrays
        from assets.training.data.histories import require_bars_before, training_histories, training_market
        from assets.training.data.windows import build_windows, sufficiency

        vintage = vintage_of_run(context, candlecast.settings)
        candlecast = candlecast.at_vintage(vintage)
        settings, home = candlecast.settings, candlecast.home
        if vintage:
            require_bars_before(vintage, candlecast)
        histories = training_histories(settings, candlecast.warehouse, vintage and settings.windows.cutoff)
        market = training_market(settings, candlecast.warehouse)
        windows = build_windows(histories, settings.windows, needs_origins=vintage is None, market=market)
        folder = home.windows / windows.digest
        if not keep_if_intact(folder, home.root):
            with publishing_folder(folder, home.scratch / "windows") as scratch:
                write_arrays(scratch, windows.arrays, dict(windows.manifest))
        set_current_windows(home, windows.digest, vintage)
        message, _ = sufficiency(windows)
        context.log.info("%s", message)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(windows.digest), metadata=_window_metadata(windows, home)
        )

    return training_windows


def _window_metadata(windows: "WindowSet", home: Home) -> dict[str, Any]:
    from assets.training.data.splits import WindowShape
    from assets.training.data.windows import sufficiency, volatility_regimes
    from assets.training.plots import most_windows, windows_plot

    message, independent = sufficiency(windows)
    counts = windows.table()
    shape = WindowShape(windows.manifest["lookback"], windows.manifest["horizon"])
    return {
        "dagster/row_count": windows.total("train") + windows.total("validation"),
        "dagster/column_schema": WINDOW_COLUMNS,
        "sufficiency": message,
        "independent_windows": independent,
        "train": windows.total("train"),
        "validation": windows.total("validation"),
        "test": windows.total("test"),
        "origins": windows.origins,
        "cutoff": windows.manifest["cutoff"],
        "fill": windows.manifest.get("fill", {}).get("rule", "none"),
        "filled_bars": int(windows.arrays["filled"].sum()) if "filled" in windows.arrays else 0,
        "events": windows.manifest.get("events", "keep"),
        "data_hash": windows.digest,
        "symbols": table(counts),
        "windows": chart(home, windows_plot, most_windows(counts), len(counts)),
        "regimes": table(volatility_regimes(windows.arrays, shape)),
    }


def _kronos_tokenizer(vintages: Vintages | None) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=vintages,
        group_name=GROUP,
        kinds={"pytorch"},
        owners=OWNERS,
        code_version="1",
        deps=["training_windows"],
        pool="gpu",
    )
    def kronos_tokenizer(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """The Kronos tokenizer: bars to pairs of tokens and back, by binary spherical quantisation."""
        return _checkpoint(context, "kronos_tokenizer", candlecast)

    return kronos_tokenizer


def _kronos_predictor(vintages: Vintages | None) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=vintages,
        group_name=GROUP,
        kinds={"pytorch"},
        owners=OWNERS,
        code_version="1",
        deps=["training_windows", "kronos_tokenizer"],
        pool="gpu",
    )
    def kronos_predictor(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """The Kronos predictor: a causal transformer over the tokens of the frozen tokenizer."""
        return _checkpoint(context, "kronos_predictor", candlecast)

    return kronos_predictor


def _chronos2_model(vintages: Vintages | None) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=vintages,
        group_name=GROUP,
        kinds={"pytorch"},
        owners=OWNERS,
        code_version="1",
        deps=["training_windows"],
        pool="gpu",
    )
    def chronos2_model(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """Chronos-2 over log adjusted closes: the published model, or a compact one of its kind."""
        return _checkpoint(context, "chronos2_model", candlecast)

    return chronos2_model


def _volatility_model(vintages: Vintages | None) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=vintages,
        group_name=GROUP,
        kinds={"numpy"},
        owners=OWNERS,
        code_version="1",  # assets.training.volatility.RECIPE_VERSION
        deps=[*sessions_before(["bars"], vintages), "corporate_actions"],
    )
    def volatility_model(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """The volatility model: a regression of the log variance of the next bars on ranges, returns and volume.

        Its scores are CRPS skill on the validation range against a random walk with EWMA volatility.
        """
        from assets.market.history import own_histories
        from assets.training.acceptance import beats_the_random_walk, weights_are_finite
        from assets.training.data.histories import require_bars_before
        from assets.training.metadata import checkpoint_metadata, skill_by_step
        from assets.training.model_selection.promotion import decide
        from assets.training.volatility import build_volatility, compare_volatility, with_validation_scores

        vintage = vintage_of_run(context, candlecast.settings)
        candlecast = candlecast.at_vintage(vintage)
        settings, store = candlecast.settings, candlecast.checkpoints
        if vintage:
            require_bars_before(vintage, candlecast)
        histories = own_histories(settings, candlecast.warehouse, settings.windows.cutoff)
        built = build_volatility(settings, histories, store)
        store.set_built("volatility_model", built.digest)
        finite = weights_are_finite(built)
        decision = decide(
            store,
            built,
            [] if finite.passed else [finite.description],
            settings.promotion,
            lambda ours, theirs: compare_volatility(ours, theirs, settings, histories),
        )
        used = with_validation_scores(store.current("volatility_model") or built, settings, histories, store)
        metadata = checkpoint_metadata(used, candlecast.home) | {"promotion": f"{decision.action}: {decision.why}"}
        metadata["result"] = beats_the_random_walk(used.card).description
        if used.card["scores"]:
            metadata["skill_by_step"] = table(skill_by_step(used.card["scores"]))
        return dg.MaterializeResult(data_version=dg.DataVersion(used.digest), metadata=metadata)

    return volatility_model


def _of_run(context: dg.AssetExecutionContext, candlecast: Candlecast) -> tuple[Candlecast, "TrainingWindows"]:
    """Settings and checkpoints of the run's vintage, if there are vintages, and its training windows."""
    from assets.training.data.current_windows import current_windows

    vintage = vintage_of_run(context, candlecast.settings)
    return candlecast.at_vintage(vintage), current_windows(candlecast.home, vintage)


def _checkpoint(context: dg.AssetExecutionContext, kind: Kind, candlecast: Candlecast) -> dg.MaterializeResult[None]:
    """Build the run's checkpoint of a kind, compare it with the champion, and return the metadata of the one in use."""
    from assets.training.acceptance import check_checkpoint
    from assets.training.build_checkpoint import build_checkpoint
    from assets.training.checkpoint_request import checkpoint_request
    from assets.training.metadata import checkpoint_metadata
    from assets.training.model_selection.comparison import run_comparison
    from assets.training.model_selection.promotion import decide
    from assets.training.worker.pipes_client import run_job

    candlecast, windows = _of_run(context, candlecast)
    settings, checkpoints = candlecast.settings, candlecast.checkpoints
    tokenizer = checkpoints.current("kronos_tokenizer") if kind == "kronos_predictor" else None
    request = checkpoint_request(kind, settings, windows, tokenizer, checkpoints.vintage)
    progress, run = logged_progress(context, kind), partial(run_job, context=context)
    built = build_checkpoint(request, settings, candlecast.home, checkpoints, windows, progress, run)
    built = checkpoints.set_built(kind, built.digest)
    decision = decide(
        checkpoints,
        built,
        [outcome.description for outcome in check_checkpoint(built, settings.tokenizer) if not outcome.passed],
        settings.promotion,
        lambda ours, theirs: run_comparison(ours, theirs, checkpoints, settings, windows.folder, context),
    )
    used = checkpoints.current(kind) or built
    metadata = checkpoint_metadata(used, candlecast.home) | {"promotion": f"{decision.action}: {decision.why}"}
    if used.digest != built.digest:
        metadata["challenger"] = built.digest
    return dg.MaterializeResult(data_version=dg.DataVersion(used.digest), metadata=metadata)
