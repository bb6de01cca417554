"""The training stage in Dagster: windows, the two Kronos models, Chronos-2, and what must hold of them.

https://docs.dagster.io/guides/build/assets. Belongs here: what depends on what, and what a person sees of it. Not
here: how windows are cut (windows), how a model is made (making), what makes one unusable (soundness).
"""

from functools import partial
from typing import Any

import dagster as dg
import pandas as pd

from assets.acceptance import CheckOutcome
from assets.market.history import read_histories
from assets.market.universe import wanted_symbols
from assets.metadata import OWNERS, picture, progress_in, schema, table
from assets.training.acceptance import (
    check_checkpoint,
    codebook_in_use,
    loss_not_above_base,
    reconstruction_is_accurate,
    weights_are_finite,
)
from assets.training.build_checkpoint import (
    CheckpointRequest,
    TrainingWindows,
    build_checkpoint,
    checkpoint_request,
    current_windows,
    set_current_windows,
)
from assets.training.data.dataset import write_arrays
from assets.training.data.splits import WindowShape
from assets.training.data.windows import WINDOWS_VERSION, WindowSet, build_windows, sufficiency, volatility_regimes
from assets.training.model_card import skill_text
from assets.training.model_selection.comparison import run_comparison
from assets.training.model_selection.promotion import PROMOTED, decide, expiry_problem
from assets.training.worker.pipes_client import run_job
from resources.candlecast import Candlecast
from resources.checkpoints import PICTURES, Checkpoint, CheckpointStore, Kind, weights_in_use
from resources.publish import publishing_folder

GROUP = "training"
TITLES = dict(zip(PICTURES, ("curves", "codebook", "reconstruction"), strict=True))
COUNT_SCHEMA = schema(
    {
        "symbol": "string",
        "bars": "bigint",
        "train": "bigint",
        "validation": "bigint",
        "test": "bigint",
        "origins": "bigint",
        "note": "string",
    }
)


def build_assets(sessions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """The stage's assets and checks. None is partitioned: weights are learnt from all sessions up to a cutoff."""
    return [
        _training_windows(),
        _kronos_tokenizer(),
        _kronos_predictor(),
        _chronos2_model(),
        *_tokenizer_checks(),
        *_weight_checks(),
        _base_check("kronos_predictor"),
        _base_check("chronos2_model"),
        *(_expiry_check(kind) for kind in PROMOTED),
    ]


def _training_windows() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP,
        kinds={"numpy"},
        owners=OWNERS,
        code_version=str(WINDOWS_VERSION),
        deps=["bars", "corporate_actions"],
    )
    def training_windows(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        """Windows to learn from: memory-mapped bars, and where each window of train and validation starts.

        Nothing after `windows.cutoff` is in them; the ranges share no bar, with a purge and an embargo between.
        """
        settings, home = candlecast.settings, candlecast.home
        histories = read_histories(candlecast.warehouse, settings.market.frequency, wanted_symbols(settings))
        found = build_windows(histories, settings.windows)
        folder = home.windows / found.digest
        if not folder.is_dir():
            with publishing_folder(folder, home.scratch / "windows") as filling:
                write_arrays(filling, found.arrays, dict(found.manifest))
        set_current_windows(home, found.digest)
        words, _ = sufficiency(found)
        context.log.info("%s", words)
        return dg.MaterializeResult(data_version=dg.DataVersion(found.digest), metadata=_window_metadata(found))

    return training_windows


def _window_metadata(found: WindowSet) -> dict[str, Any]:
    words, apart = sufficiency(found)
    shape = WindowShape(found.manifest["lookback"], found.manifest["horizon"])
    return {
        "dagster/row_count": found.total("train") + found.total("validation"),
        "dagster/column_schema": COUNT_SCHEMA,
        "enough": words,
        "windows_apart": apart,
        "train": found.total("train"),
        "validation": found.total("validation"),
        "test": found.total("test"),
        "origins": found.origins,
        "cutoff": found.manifest["cutoff"],
        "data_hash": found.digest,
        "symbols": table(found.table()),
        "regimes": table(volatility_regimes(found.arrays, shape)),
    }


def _kronos_tokenizer() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP, kinds={"pytorch"}, owners=OWNERS, code_version="1", deps=["training_windows"], pool="gpu"
    )
    def kronos_tokenizer(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        """The Kronos tokenizer: bars into pairs of tokens and back, by binary spherical quantisation."""
        windows = current_windows(candlecast.home)
        return _made(context, checkpoint_request("kronos_tokenizer", candlecast.settings, windows), candlecast, windows)

    return kronos_tokenizer


def _kronos_predictor() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP,
        kinds={"pytorch"},
        owners=OWNERS,
        code_version="1",
        deps=["training_windows", "kronos_tokenizer"],
        pool="gpu",
    )
    def kronos_predictor(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        """The Kronos predictor: a causal transformer over the frozen tokenizer's tokens."""
        windows = current_windows(candlecast.home)
        request = checkpoint_request(
            "kronos_predictor", candlecast.settings, windows, candlecast.checkpoints.current("kronos_tokenizer")
        )
        return _made(context, request, candlecast, windows)

    return kronos_predictor


def _chronos2_model() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP, kinds={"pytorch"}, owners=OWNERS, code_version="1", deps=["training_windows"], pool="gpu"
    )
    def chronos2_model(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        """Chronos-2 over log adjusted closes: the published model, or a compact one of its kind."""
        windows = current_windows(candlecast.home)
        return _made(context, checkpoint_request("chronos2_model", candlecast.settings, windows), candlecast, windows)

    return chronos2_model


def _made(
    context: dg.AssetExecutionContext,
    request: CheckpointRequest,
    candlecast: Candlecast,
    windows: TrainingWindows,
) -> dg.MaterializeResult:
    """Make what is ordered, let it challenge what is in use, and show what is in use from now on."""
    settings, checkpoints = candlecast.settings, candlecast.checkpoints
    progress, run = progress_in(context, request.kind), partial(run_job, context=context)
    made = checkpoints.set_made(
        request.kind, build_checkpoint(request, settings, candlecast.home, checkpoints, windows, progress, run).digest
    )
    decision = decide(
        checkpoints,
        made,
        [outcome.description for outcome in check_checkpoint(made, settings.tokenizer) if not outcome.passed],
        settings.promotion,
        lambda ours, theirs: run_comparison(ours, theirs, checkpoints, settings, windows.folder, context),
    )
    used = checkpoints.current(request.kind) or made
    metadata = _checkpoint_metadata(used) | {"promotion": f"{decision.action}: {decision.why}"}
    if used.digest != made.digest:
        metadata["challenger"] = made.digest
    return dg.MaterializeResult(data_version=dg.DataVersion(used.digest), metadata=metadata)


def _checkpoint_metadata(made: Checkpoint) -> dict[str, Any]:
    card = made.card
    curves = card["curves"]
    shown: dict[str, Any] = {
        "checkpoint": made.digest,
        "folder": dg.MetadataValue.path(str(made.folder)),
        "parameters": card["parameters"],
        "cutoff": card["cutoff"] or "not known: every forecast counts as in-sample",
        "base": card["base"]["weights"],
        "data_hash": card["data_hash"] or "none: the base as it is",
        "seed": card["seed"],
        "card": dg.MetadataValue.md((made.folder / "README.md").read_text().split("---\n", 2)[-1]),
    }
    if card["tokenizer"]:
        shown["tokenizer"] = card["tokenizer"]
    if curves:
        shown["windows_per_second"] = float(curves["windows_per_second"])
        shown["peak_memory_mib"] = curves["peak_memory_bytes"] / 2**20
        shown["step_of_lowest_loss"] = curves["best_step"]
        shown["in_use"] = weights_in_use(card)
    shown |= {name: float(value) for name, value in card["scores"].items() if isinstance(value, int | float)}
    if "candidates" in card["scores"]:
        shown["candidates"] = table(_candidates(card["scores"]))
    pictures = {title: made.folder / name for name, title in TITLES.items() if (made.folder / name).is_file()}
    return shown | {title: picture(file.read_bytes()) for title, file in pictures.items()}


def _candidates(scores: dict[str, Any]) -> pd.DataFrame:
    """The weights that were tried, one a row, the chosen one marked."""
    rows = [
        {
            "weights": name + (", chosen" if name == scores["chosen"] else ""),
            "token loss": one["loss"],
            "CRPS, % of close": one["crps"],
            "RankIC": one["rank_ic"],
            "skill against the base": skill_text(one),
        }
        for name, one in scores["candidates"].items()
    ]
    return pd.DataFrame(rows)


def _tokenizer_checks() -> list[dg.AssetChecksDefinition]:
    @dg.asset_check(asset="kronos_tokenizer", blocking=True)
    def codebook_is_used(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Both halves of the codebook are in use: a collapsed tokenizer says the same of every bar."""
        return _checked(
            codebook_in_use(_made_last("kronos_tokenizer", candlecast.checkpoints).card, candlecast.settings.tokenizer)
        )

    @dg.asset_check(asset="kronos_tokenizer", blocking=True)
    def reconstruction_is_near(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Prices come back through the tokens."""
        card = _made_last("kronos_tokenizer", candlecast.checkpoints).card
        return _checked(reconstruction_is_accurate(card, candlecast.settings.tokenizer))

    return [codebook_is_used, reconstruction_is_near]


def _weight_checks() -> list[dg.AssetChecksDefinition]:
    kinds: tuple[Kind, ...] = ("kronos_tokenizer", "kronos_predictor", "chronos2_model")
    return [_finite_check(kind) for kind in kinds]


def _finite_check(kind: Kind) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=kind, name="weights_are_finite", blocking=True)
    def finite(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Every number of the weights is one."""
        return _checked(weights_are_finite(_made_last(kind, candlecast.checkpoints)))

    return finite


def _base_check(kind: Kind) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=kind, blocking=True)
    def loss_is_not_above_its_base(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """The validation loss is not above that of the weights it started from."""
        return _checked(loss_not_above_base(_made_last(kind, candlecast.checkpoints).card))

    return loss_is_not_above_its_base


def _expiry_check(kind: Kind) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=kind, name="is_not_expired")
    def fresh(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """The checkpoint in use is not older than `promotion.expires_days` allows."""
        used = candlecast.checkpoints.current(kind)
        newest = candlecast.warehouse.frame("SELECT max(session) AS newest FROM bars")["newest"].iloc[0]
        wrong = (
            expiry_problem(used, newest.date(), candlecast.settings.promotion) if used and not pd.isna(newest) else None
        )
        return dg.AssetCheckResult(
            passed=wrong is None, severity=dg.AssetCheckSeverity.WARN, description=wrong or "not expired"
        )

    return fresh


def _made_last(kind: Kind, checkpoints: CheckpointStore) -> Checkpoint:
    found = checkpoints.made(kind)
    if found is None:
        raise dg.Failure(f"there is no {kind} to check: materialise it first", allow_retries=False)
    return found


def _checked(outcome: CheckOutcome) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=outcome.description,
        metadata=dict(outcome.metadata),
    )
