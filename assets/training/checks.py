"""The asset checks of the training stage: blocking ones on the newest checkpoint, and the age of the champions.

https://docs.dagster.io/guides/test/asset-checks. Not here: the conditions themselves (acceptance,
model_selection.promotion).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from typing import TYPE_CHECKING

import dagster as dg

from assets.checks import warning
from assets.sessions import vintage_of_run
from assets.training.model_selection.promotion import PROMOTED, expiry_problem
from resources.candlecast import Candlecast
from resources.checkpoints import Checkpoint, Kind

if TYPE_CHECKING:
    from assets.acceptance import CheckOutcome

KINDS: tuple[Kind, ...] = ("kronos_tokenizer", "kronos_predictor", "chronos2_model", "volatility_model")


def build_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of the tokenizer, the predictor, Chronos-2 and the volatility model."""
    return [
        _windows_end_before_the_cutoff(),
        _codebook_is_used(),
        _reconstruction_error_is_low(),
        *(_weights_are_finite(kind) for kind in KINDS),
        _loss_is_not_above_its_base("kronos_predictor"),
        _loss_is_not_above_its_base("chronos2_model"),
        _beats_the_random_walk(),
        *(_is_not_expired(kind) for kind in PROMOTED),
    ]


def _windows_end_before_the_cutoff() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="training_windows", blocking=True)
    def windows_end_before_the_cutoff(
        context: dg.AssetCheckExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.AssetCheckResult:
        """No training window has a bar of the validation range, and no window a bar after the cutoff."""
        from assets.training.acceptance import windows_in_range
        from assets.training.data.current_windows import current_windows
        from assets.training.data.dataset import WindowArrays

        windows = current_windows(candlecast.home, vintage_of_run(context, candlecast.settings))
        return _result(windows_in_range(WindowArrays(windows.folder)))

    return windows_end_before_the_cutoff


def _codebook_is_used() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="kronos_tokenizer", blocking=True)
    def codebook_is_used(
        context: dg.AssetCheckExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.AssetCheckResult:
        """Both halves of the codebook are in use: a collapsed tokenizer maps every bar to the same token."""
        from assets.training.acceptance import codebook_in_use

        card = _newest("kronos_tokenizer", candlecast, context).card
        return _result(codebook_in_use(card, candlecast.settings.tokenizer))

    return codebook_is_used


def _reconstruction_error_is_low() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="kronos_tokenizer", blocking=True)
    def reconstruction_error_is_low(
        context: dg.AssetCheckExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.AssetCheckResult:
        """The RMSE of prices decoded from their tokens is below `tokenizer.max_reconstruction`."""
        from assets.training.acceptance import reconstruction_is_accurate

        card = _newest("kronos_tokenizer", candlecast, context).card
        return _result(reconstruction_is_accurate(card, candlecast.settings.tokenizer))

    return reconstruction_error_is_low


def _weights_are_finite(kind: Kind) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=kind, name="weights_are_finite", blocking=True)
    def weights_are_finite(
        context: dg.AssetCheckExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.AssetCheckResult:
        """All weights are finite."""
        from assets.training.acceptance import weights_are_finite as outcome_of

        return _result(outcome_of(_newest(kind, candlecast, context)))

    return weights_are_finite


def _loss_is_not_above_its_base(kind: Kind) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=kind, blocking=True)
    def loss_is_not_above_its_base(
        context: dg.AssetCheckExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.AssetCheckResult:
        """The validation loss is not above that of the base weights."""
        from assets.training.acceptance import loss_not_above_base

        return _result(loss_not_above_base(_newest(kind, candlecast, context).card))

    return loss_is_not_above_its_base


def _is_not_expired(kind: Kind) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=kind, name="is_not_expired")
    def is_not_expired(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """The checkpoint in use is not older than `promotion.expires_days`; of vintages the newest."""
        from assets.forecasting.model_vintages import trained_vintages

        trained = trained_vintages(kind, candlecast.settings, candlecast.checkpoints)
        used = candlecast.checkpoints.at(trained[-1]).current(kind) if trained else None
        with candlecast.warehouse.read() as connection:
            row = connection.execute("SELECT max(session) FROM bars").fetchone()
        newest = row[0] if row else None
        problem = expiry_problem(used, newest, candlecast.settings.promotion) if used and newest else None
        return dg.AssetCheckResult(
            passed=problem is None, severity=dg.AssetCheckSeverity.WARN, description=problem or "not expired"
        )

    return is_not_expired


def _beats_the_random_walk() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="volatility_model")
    def beats_the_random_walk(
        context: dg.AssetCheckExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.AssetCheckResult:
        """On the validation range, the CRPS of the model in use is below that of a random walk with EWMA volatility."""
        from assets.training.acceptance import beats_the_random_walk as outcome_of

        store = candlecast.checkpoints.at(vintage_of_run(context, candlecast.settings))
        checkpoint = store.current("volatility_model") or _newest("volatility_model", candlecast, context)
        return warning(outcome_of(checkpoint.card))

    return beats_the_random_walk


def _newest(kind: Kind, candlecast: Candlecast, context: dg.AssetCheckExecutionContext) -> Checkpoint:
    """The checkpoint that was built last, of the run's vintage if there are vintages."""
    checkpoint = candlecast.checkpoints.at(vintage_of_run(context, candlecast.settings)).built(kind)
    if checkpoint is None:
        raise dg.Failure(f"there is no {kind} to check: materialise it first", allow_retries=False)
    return checkpoint


def _result(outcome: "CheckOutcome") -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=outcome.description,
        metadata=dict(outcome.metadata),
    )
