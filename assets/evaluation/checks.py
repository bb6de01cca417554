"""The asset checks of the evaluation stage.

https://docs.dagster.io/guides/test/asset-checks. Not here: how a problem is found (acceptance).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from datetime import date

import dagster as dg

from assets.checks import no_rows, warning
from resources.candlecast import Candlecast


def build_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of forecast_scores and scoreboard."""
    return [_scores_are_valid(), _every_model_is_compared()]


def _scores_are_valid() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="forecast_scores", blocking=True)
    def scores_are_valid(
        context: dg.AssetCheckExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.AssetCheckResult:
        """Scores are unique, finite and within the range of their metric.

        Duplicates are searched for among the scores that the run could write; without a partition among all.
        """
        from assets.evaluation.acceptance import impossible_scores
        from assets.evaluation.scoring import origins_that_reach

        span: tuple[date, ...] = ()
        if context.has_partition_key or context.has_partition_key_range:
            covered = sorted(date.fromisoformat(key) for key in context.partition_keys)
            span = origins_that_reach(covered[0], covered[-1], candlecast.settings.windows.predict_window)
        wrong = impossible_scores(candlecast.warehouse, *span)
        problem = "scores are duplicate or out of range: delete them from forecast_scores and score again"
        return no_rows(wrong, "every score is unique and valid", problem)

    return scores_are_valid


def _every_model_is_compared() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="scoreboard")
    def every_model_is_compared(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """The scoreboard has out-of-sample scores of every model that is in use."""
        from assets.evaluation.acceptance import check_models_compared
        from assets.forecasting.registry import checkpoints_in_use

        used = checkpoints_in_use(candlecast.settings, candlecast.checkpoints)
        return warning(check_models_compared(candlecast.warehouse, used))

    return every_model_is_compared
