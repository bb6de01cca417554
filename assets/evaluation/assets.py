"""The assets of the evaluation stage: scores of single forecasts, and the scoreboard of models.

https://docs.dagster.io/guides/build/assets. Belongs here: dependencies and metadata. Not here: what a score is
(forecasting.metrics), how forecasts are scored (scoring) and models compared (scoreboard), and the checks (checks).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.evaluation.checks import build_checks
from assets.metadata import (
    OWNERS,
    add_session_contents,
    add_to_newest_partition,
    chart,
    column_lineage,
    inline_bullets,
    schema,
    table,
)
from assets.sessions import sessions_of
from resources.candlecast import Candlecast
from resources.layout import Home
from resources.progress import progress_of
from resources.publish import digest_of
from resources.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from assets.evaluation.scoreboard import ScoreboardResult

GROUP = "evaluation"
SCORE_COLUMNS = schema(
    {
        "model": ("string", ""),
        "checkpoint": ("string", "digest of weights and recipe"),
        "symbol": ("string", "'*' for metrics across symbols"),
        "origin": ("timestamp", "UTC, the last bar that the forecast used"),
        "step": ("integer", "1 … horizon"),
        "metric": ("string", ""),
        "value": ("double", "losses in % of the close at the origin"),
    }
)
BOARD_COLUMNS = schema(
    {
        "model": ("string", ""),
        "metric": ("string", ""),
        "horizon": ("integer", "forecast step; 0: mean over all steps"),
        "value": ("double", "mean over symbols and origins, weighted by the sessions until the next origin"),
        "low": ("double", "lower end of the confidence interval of value"),
        "high": ("double", "upper end of the confidence interval of value"),
        "n": ("bigint", "number of origins"),
        "baseline": ("string", "model that the skill compares with"),
        "skill": ("double", "1 − loss / loss of the baseline"),
        "skill_low": ("double", "lower end of the confidence interval of skill"),
        "skill_high": ("double", "upper end of the confidence interval of skill"),
        "verdict": ("string", "whether the interval excludes 0"),
        "forward": ("bigint", "number of origins that were forecast before the target's session began"),
    }
)

BOARD_LINEAGE = column_lineage(
    {
        **{name: [f"forecast_scores.{name}"] for name in ("model", "metric")},
        "horizon": ["forecast_scores.step"],
        "n": ["forecast_scores.origin"],
        "baseline": ["forecast_scores.model"],
        **{
            name: ["forecast_scores.value"]
            for name in ("value", "low", "high", "skill", "skill_low", "skill_high", "verdict")
        },
    }
)


def build_assets(
    settings: Settings, sessions: dg.DailyPartitionsDefinition
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """forecast_scores and scoreboard, with their checks."""
    return [_forecast_scores(settings.forecast_assets, sessions), _scoreboard(), *build_checks()]


def score_lineage(forecasts: Sequence[str]) -> dg.TableColumnLineage:
    """The columns that scores are computed from, of these assets of forecasts and of the market."""
    names = ("model", "checkpoint", "symbol", "origin", "step")
    values = [*(f"{asset}.value" for asset in forecasts), "bars.close", "corporate_actions.price_factor"]
    return column_lineage({**{name: [f"{asset}.{name}" for asset in forecasts] for name in names}, "value": values})


def _forecast_scores(forecasts: Sequence[str], sessions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="2",
        deps=["bars", "corporate_actions", *forecasts],
        pool="warehouse",
    )
    def forecast_scores(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """Scores of the forecasts whose target is in these sessions: CRPS, errors, coverage, direction, PIT, RankIC.

        A forecast is scored once, and again when a bar that its score uses is corrected. A forecast whose target has
        no bar yet is scored when the bar arrives.
        """
        from assets.evaluation.plots import crps_by_step, step_chart
        from assets.evaluation.score_queries import means_by_step
        from assets.evaluation.scoring import content_by_session, score_content, score_sessions
        from assets.forecasting.filters import ForecastFilter
        from assets.forecasting.registry import checkpoints_in_use
        from assets.market.history import read_histories
        from assets.market.selection import source_filter

        settings, warehouse = candlecast.settings, candlecast.warehouse
        covered, frequency = sessions_of(context), settings.market.frequency
        histories = read_histories(warehouse, frequency, last=covered[-1], sources=source_filter(settings, warehouse))
        scored = score_sessions(warehouse, histories, covered, progress_of("forecast_scores"), candlecast.calendar)
        rows, digest = score_content(warehouse, covered[0], covered[-1], settings.windows.predict_window, frequency)
        used = checkpoints_in_use(settings, candlecast.checkpoints)
        by_step = means_by_step(warehouse, used, ForecastFilter.of(settings, warehouse))
        shown = {"crps_by_step": chart(candlecast.home, step_chart, crps_by_step(by_step))} if len(by_step) else {}
        add_to_newest_partition(
            context,
            {
                **shown,
                "dagster/column_schema": SCORE_COLUMNS,
                "dagster/column_lineage": score_lineage(forecasts),
                "scored_now": scored.rows,
                "targets": scored.cells,
                "targets_without_a_bar": scored.without_actual,
                "means": table(_means(by_step)),
            },
        )
        add_session_contents(context, content_by_session(warehouse, covered, candlecast.calendar), covered)
        return dg.MaterializeResult(data_version=dg.DataVersion(digest), metadata={"rows_of_run": rows})

    return forecast_scores


def _scoreboard() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP, kinds={"duckdb"}, owners=OWNERS, code_version="5", deps=["forecast_scores"], pool="warehouse"
    )
    def scoreboard(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """Every model against the random walks, out of sample, with intervals from a block bootstrap in time.

        Of the symbols in `market.symbols`, from origins since the start of `windows.test`.
        """
        from assets.evaluation.score_queries import forecast_costs
        from assets.evaluation.scoreboard import build_scoreboard, write_scoreboard
        from assets.forecasting.registry import checkpoints_in_use
        from assets.forecasting.verdict import verdict_text

        settings, warehouse = candlecast.settings, candlecast.warehouse
        used = checkpoints_in_use(settings, candlecast.checkpoints)
        comparison = build_scoreboard(warehouse, settings, used, candlecast.calendar)
        write_scoreboard(warehouse, comparison.scoreboard)
        verdict = verdict_text(comparison.scoreboard, settings.evaluation.confidence)
        context.log.info("%s", verdict[0])
        rows = comparison.scoreboard.astype(str).to_numpy().tolist()
        metadata = _board_metadata(comparison, verdict, candlecast.home)
        if len(costs := forecast_costs(warehouse, used)):
            metadata["costs"] = table(costs)
        return dg.MaterializeResult(data_version=dg.DataVersion(digest_of(rows)), metadata=metadata)

    return scoreboard


def _board_metadata(comparison: "ScoreboardResult", verdict: list[str], home: Home) -> dict[str, Any]:
    from assets.evaluation.plots import crps_by_step, pit_chart, pit_densities, skill_chart, skills, step_chart
    from assets.evaluation.scoreboard import origins_text
    from assets.forecasting.filters import without_recalibrated
    from assets.forecasting.metrics import ALL_STEPS
    from assets.forecasting.verdict import REFERENCE_MODEL

    board = comparison.scoreboard
    metadata: dict[str, Any] = {
        "dagster/row_count": len(board),
        "dagster/column_schema": BOARD_COLUMNS,
        "dagster/column_lineage": BOARD_LINEAGE,
        **inline_bullets("verdict", verdict),
        "block_of_sessions": comparison.block,
        "origins": table(comparison.counts),
        "origins_by_model": origins_text(comparison.counts),
        "made_from_corrected_bars": sum(comparison.corrected_since.values()),
    }
    if board.empty:
        return metadata
    against = board[(board["metric"] == "crps") & (board["horizon"] == ALL_STEPS)]
    # Every figure is a plot on the asset's page: recalibrated models are in the tables alone.
    raw = without_recalibrated(against)
    against_reference = raw[raw["baseline"] == REFERENCE_MODEL].set_index("model")["skill"].dropna()
    metadata |= {f"crps_skill/{model}": float(skill) for model, skill in against_reference.items()}
    # Few columns: a table that is wider than the page makes the verdict as wide.
    metadata["crps"] = table(against[["model", "baseline", "value", "skill", "verdict"]])
    metadata["all_scores"] = table(
        board.loc[board["horizon"] == ALL_STEPS, ["metric", "model", "value", "n"]].drop_duplicates(["metric", "model"])
    )
    metadata["skill"] = chart(home, skill_chart, skills(board))
    metadata["pit"] = chart(home, pit_chart, pit_densities(comparison.pits))
    metadata["crps_by_step"] = chart(home, step_chart, crps_by_step(comparison.by_step))
    return metadata


def _means(by_step: "pd.DataFrame") -> "pd.DataFrame":
    """One row per model, one column per metric."""
    means = by_step.groupby(["model", "metric"])["value"].mean().unstack("metric").reset_index()
    return means.rename_axis(columns=None)
