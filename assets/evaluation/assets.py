"""The evaluation stage in Dagster: scores of single forecasts, and the scoreboard of models.

https://docs.dagster.io/guides/build/assets. Belongs here: what depends on what, and what a person sees of it. Not
here: what a score is (metrics), how scores are made (scoring) and compared (scoreboard).
"""

from typing import Any

import dagster as dg
import pandas as pd

from assets.evaluation.acceptance import impossible_scores, score_content
from assets.evaluation.comparing import Comparison, compare
from assets.evaluation.plots import pit_chart, skill_chart, step_chart
from assets.evaluation.scoreboard import COLUMNS, means_by_step, write_scoreboard
from assets.evaluation.scoring import score_sessions
from assets.forecasting.filters import Scope
from assets.forecasting.metrics import ALL_STEPS
from assets.forecasting.registry import checkpoints_in_use
from assets.forecasting.verdict import verdict_in_words
from assets.market.history import read_histories
from assets.metadata import OWNERS, picture, schema, table, tell_newest
from assets.sessions import sessions_of
from resources.candlecast import Candlecast
from resources.progress import progress_of
from resources.publish import digest_of

GROUP = "evaluation"
FAMILIES = ("baseline_forecasts", "kronos_forecasts", "chronos2_forecasts")
SCORE_COLUMNS = {
    "model": "string",
    "checkpoint": "string",
    "symbol": "string, '*' across symbols",
    "origin": "timestamp, UTC",
    "step": "integer",
    "metric": "string",
    "value": "double; losses in % of the origin's close",
}
BOARD_COLUMNS = {
    "model": "string",
    "metric": "string",
    "horizon": "integer, 0: all steps",
    "value": "double",
    "low": "double",
    "high": "double",
    "n": "bigint, origins",
    "baseline": "string",
    "skill": "double",
    "skill_low": "double",
    "skill_high": "double",
    "verdict": "string",
}


def build_assets(sessions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """forecast_scores and scoreboard, with their checks."""
    return [_forecast_scores(sessions), _scoreboard(), _scores_are_possible(), _every_model_is_compared()]


def _forecast_scores(sessions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="2",
        deps=["bars", "corporate_actions", *FAMILIES],
        pool="warehouse",
    )
    def forecast_scores(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        """Forecasts about a session against what then was: CRPS, errors, coverage, direction, PIT, rank correlation.

        A score is made once, and again where a bar that it stands on was corrected. A forecast without a bar at its
        target waits for it.
        """
        settings, warehouse = candlecast.settings, candlecast.warehouse
        wanted, frequency = sessions_of(context), settings.market.frequency
        histories = read_histories(warehouse, frequency, last=wanted[-1])
        scored = score_sessions(warehouse, histories, wanted, progress_of("forecast_scores"), candlecast.calendar)
        rows, digest = score_content(warehouse, wanted[0], wanted[-1], settings.windows.predict_window, frequency)
        used = checkpoints_in_use(settings, candlecast.checkpoints)
        means = means_by_step(warehouse, used, Scope.of(settings))
        tell_newest(
            context,
            {
                "dagster/column_schema": schema(SCORE_COLUMNS),
                "scored_now": scored.rows,
                "targets": scored.cells,
                "targets_without_a_bar": scored.without_truth,
                "means": table(_means(means)),
            },
        )
        return dg.MaterializeResult(data_version=dg.DataVersion(digest), metadata={"dagster/row_count": rows})

    return forecast_scores


def _scoreboard() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP, kinds={"duckdb"}, owners=OWNERS, code_version="3", deps=["forecast_scores"], pool="warehouse"
    )
    def scoreboard(context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult:
        """Every model against the random walks, out of sample, with intervals from a block bootstrap over origins.

        Of the symbols of `market.symbols`, from origins since `windows.test` began.
        """
        settings, warehouse = candlecast.settings, candlecast.warehouse
        used = checkpoints_in_use(settings, candlecast.checkpoints)
        compared = compare(warehouse, settings, used, candlecast.calendar)
        write_scoreboard(warehouse, compared.scoreboard)
        verdict = verdict_in_words(compared.scoreboard, settings.evaluation.confidence)
        context.log.info("%s", verdict[0])
        rows = compared.scoreboard.astype(str).to_numpy().tolist()
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of(rows)), metadata=_board_metadata(compared, verdict)
        )

    return scoreboard


def _board_metadata(compared: Comparison, verdict: list[str]) -> dict[str, Any]:
    board = compared.scoreboard
    metadata: dict[str, Any] = {
        "dagster/row_count": len(board),
        "dagster/column_schema": schema(BOARD_COLUMNS),
        "verdict": dg.MetadataValue.md("\n".join(f"- {sentence}" for sentence in verdict)),
        "block_of_origins": compared.block,
        "origins": table(compared.counts),
    }
    if board.empty:
        return metadata
    shown = [name for name in COLUMNS if name != "horizon"]
    metadata["all_steps"] = table(board.loc[board["horizon"] == ALL_STEPS, shown])
    metadata["skill"] = picture(skill_chart(board))
    metadata["pit"] = picture(pit_chart(compared.pits))
    metadata["crps_by_step"] = picture(step_chart(compared.by_step))
    return metadata


def _scores_are_possible() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="forecast_scores", blocking=True)
    def scores_are_possible(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Each score is there once, finite and within what its metric can be."""
        wrong = impossible_scores(candlecast.warehouse)
        told = f"{len(wrong)} scores are doubled or impossible: delete them from forecast_scores and score again"
        return dg.AssetCheckResult(
            passed=wrong.empty,
            description="every score is there once and possible" if wrong.empty else told,
            metadata={} if wrong.empty else {"wrong": table(wrong)},
        )

    return scores_are_possible


def _every_model_is_compared() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="scoreboard")
    def every_model_is_compared(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Every model that forecasts now stands on the scoreboard, out of sample, against the random walk."""
        used = set(checkpoints_in_use(candlecast.settings, candlecast.checkpoints))
        missing = sorted(used - set(candlecast.warehouse.frame("SELECT DISTINCT model FROM scoreboard")["model"]))
        return dg.AssetCheckResult(
            passed=not missing,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"without out-of-sample scores: {', '.join(missing)}. Forecast origins after the checkpoint's "
            "cutoff whose targets have come, then score them"
            if missing
            else "every model is compared",
        )

    return every_model_is_compared


def _means(by_step: pd.DataFrame) -> pd.DataFrame:
    means = by_step.groupby(["model", "metric"])["value"].mean().unstack("metric").reset_index()
    return means.rename_axis(columns=None)
