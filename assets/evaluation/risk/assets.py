"""The assets of risk: measures read off the forecasts, and their backtest.

https://docs.dagster.io/guides/build/assets. Belongs here: dependencies and metadata. Not here: what a measure is
(tails, path_events), and how it is tested (backtest, coverage_tests).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.evaluation.risk.checks import build_checks
from assets.metadata import OWNERS, chart, column_lineage, logged_progress, schema, table
from resources.candlecast import Candlecast
from resources.settings import Settings

if TYPE_CHECKING:
    from assets.evaluation.risk.backtest_table import RiskBacktest

GROUP = "evaluation"
RISK_COLUMNS = schema(
    {
        "model": ("string", ""),
        "checkpoint": ("string", "digest of weights and recipe"),
        "symbol": ("string", ""),
        "origin": ("timestamp", "UTC, the last bar that the forecast used"),
        "step": ("integer", "in bars after the origin"),
        "target_ts": ("timestamp", "UTC, the bar of the step"),
        "measure": ("string", "var, es: losses; drawdown, touch: probabilities"),
        "level": ("double", "probability of a larger loss; size of the drawdown; distance from the last close"),
        "value": ("double", "losses as negative log return"),
        "method": ("string", "where the value comes from"),
        "outcomes": ("integer", "earlier outcomes that the tail was learnt from, or sample paths"),
    }
)
BACKTEST_COLUMNS = schema(
    {
        "model": ("string", ""),
        "step": ("integer", "in bars after the origin"),
        "measure": ("string", "as in forecast_risk"),
        "level": ("double", "as in forecast_risk"),
        "forecasts": ("bigint", "out-of-sample forecasts with an outcome"),
        "n": ("bigint", "of these, whose horizons do not overlap"),
        "exceptions": ("bigint", "losses beyond the value at risk, or events, of n"),
        "expected": ("double", "expected ones of n"),
        "rate_low": ("double", "lower end of the interval of exceptions / n"),
        "rate_high": ("double", "upper end of the interval of exceptions / n"),
        "block_p": ("double", "p of exceptions as expected, by blocks of dates"),
        "kupiec_p": ("double", "the same, with independent outcomes"),
        "christoffersen_p": ("double", "p of exceptions that do not cluster in time"),
        "conditional_p": ("double", "p of both"),
        "score": ("double", "quantile score in % of log return, or Brier score"),
        "baseline": ("string", "what the skill compares with"),
        "baseline_score": ("double", "of the forecasts that both made"),
        "skill": ("double", "1 − score / score of the baseline"),
        "skill_low": ("double", "lower end of the interval of skill"),
        "skill_high": ("double", "upper end of the interval of skill"),
        "es_z": ("double", "second statistic of Acerbi and Szekely; below 0: losses are larger than forecast"),
        "es_p": ("double", "p of es_z = 0, by blocks of dates"),
        "reliability": ("double", "part of the Brier score that calibration would remove"),
    }
)
_TESTED = ("exceptions", "rate_low", "rate_high", "block_p", "kupiec_p", "christoffersen_p", "conditional_p", "score",
           "baseline_score", "skill", "skill_low", "skill_high", "es_z", "es_p", "reliability")  # fmt: skip
BACKTEST_LINEAGE = column_lineage(
    {
        **{name: [f"forecast_risk.{name}"] for name in ("model", "step", "measure", "level")},
        **{name: ["forecast_risk.origin"] for name in ("forecasts", "n")},
        "expected": ["forecast_risk.level", "forecast_risk.value"],
        "baseline": ["forecast_risk.model"],
        **{name: ["forecast_risk.value", "bars.close", "bars.high", "bars.low"] for name in _TESTED},
    }
)
_NEWEST = """
SELECT symbol, origin, step, measure, level, value FROM forecast_risk
WHERE model = $model AND measure IN ('var', 'es') AND origin = (
    SELECT max(origin) FROM forecast_risk WHERE model = $model AND measure = 'var'
)
ORDER BY ALL
"""


def build_assets(settings: Settings) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """forecast_risk and risk_backtest, with their checks."""
    return [_forecast_risk(settings.forecast_assets), _risk_backtest(), *build_checks()]


def risk_lineage(forecasts: Sequence[str]) -> dg.TableColumnLineage:
    """The columns that the measures are computed from, of these assets of forecasts and of the bars."""
    names = ("model", "checkpoint", "symbol", "origin", "step", "target_ts")
    values = [*(f"{asset}.value" for asset in forecasts), "bars.close"]
    return column_lineage(
        {
            **{name: [f"{asset}.{name}" for asset in forecasts] for name in names},
            **dict.fromkeys(("value", "method", "outcomes"), values),
        }
    )


def _forecast_risk(forecasts: Sequence[str]) -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="1",
        deps=["bars", "forecast_scores", "scoreboard", *forecasts],
        pool="warehouse",
    )
    def forecast_risk(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """Value at risk and expected shortfall of the log return by every model, and from sample paths the probability
        of a drawdown and of touching a price.

        Of the symbols in `market.symbols`, from origins since the start of `windows.test`. Losses are positive. The
        tail beyond the value at risk is that of earlier outcomes, Student's t until there are 30.
        """
        from assets.evaluation.risk.risk_table import update_risk
        from assets.forecasting.registry import checkpoints_in_use

        used = checkpoints_in_use(candlecast.settings, candlecast.checkpoints)
        updated = update_risk(candlecast, used, logged_progress(context, "forecast_risk"))
        if updated.without_paths:
            context.log.warning(
                "%d origins without probabilities of drawdowns and touches, the first %s: their sample paths are gone "
                "or damaged. Materialise their forecasts again",
                len(updated.without_paths),
                updated.without_paths[0],
            )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(updated.digest),
            metadata={
                "dagster/row_count": updated.rows,
                "dagster/column_schema": RISK_COLUMNS,
                "dagster/column_lineage": risk_lineage(forecasts),
                "origins_without_paths": len(updated.without_paths),
                **_newest(candlecast),
            },
        )

    return forecast_risk


def _newest(candlecast: Candlecast) -> dict[str, Any]:
    """The measures from the newest origin, by the best model of the scoreboard."""
    from assets.evaluation.risk.backtest_table import default_model
    from assets.evaluation.risk.plots import first_symbols, newest_chart

    model = default_model(candlecast.warehouse)
    newest = candlecast.warehouse.frame(_NEWEST, {"model": model})
    if newest.empty:
        return {}
    shown = newest[newest["level"] == newest["level"].max()]
    named = newest["measure"] + newest["level"].map(" {:g}".format) + newest["step"].map(", step {}".format)
    wide = newest.assign(named=named).pivot_table(index="symbol", columns="named", values="value")[named.unique()]
    origin, level = shown["origin"].to_numpy()[0], float(shown["level"].iloc[0])
    return {
        "model": model,
        "newest_origin": str(newest["origin"].iloc[0]),
        "newest": chart(
            candlecast.home, newest_chart, first_symbols(shown), model, origin, level, shown["symbol"].nunique()
        ),
        "measures": table(wide.reset_index()),
    }


def _risk_backtest() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="1",
        deps=["bars", "forecast_scores", "scoreboard", "forecast_risk"],
        pool="warehouse",
    )
    def risk_backtest(candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult[None]:
        """Backtests of the risk measures: exceptions against expected ones, their independence, scores and skill.

        Out of sample. Tests of exceptions are of forecasts whose horizons do not overlap; `block_p` allows for symbols
        that fall together, Kupiec's and Christoffersen's p-values do not.
        """
        from assets.evaluation.risk.backtest_table import build_backtest, write_backtest
        from resources.publish import digest_of

        backtest = build_backtest(candlecast)
        write_backtest(candlecast.warehouse, backtest.rows)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of(backtest.rows.astype(str).to_numpy().tolist())),
            metadata=_backtest_metadata(candlecast, backtest),
        )

    return risk_backtest


def _backtest_metadata(candlecast: Candlecast, backtest: "RiskBacktest") -> dict[str, Any]:
    from assets.evaluation.risk.plots import exceptions, exceptions_chart, reliability, reliability_chart

    rows, home = backtest.rows, candlecast.home
    metadata: dict[str, Any] = {
        "dagster/row_count": len(rows),
        "dagster/column_schema": BACKTEST_COLUMNS,
        "dagster/column_lineage": BACKTEST_LINEAGE,
    }
    if rows.empty:
        return metadata
    level = max(candlecast.settings.risk.levels)
    losses, shown = (
        rows[rows["measure"] == "var"],
        ["model", "step", "n", "exceptions", "expected", "kupiec_p", "block_p"],
    )
    metadata["exceptions"] = chart(home, exceptions_chart, exceptions(rows, level), level)
    metadata["value_at_risk"] = table(losses.loc[losses["level"] == level, shown])
    metadata["skill"] = table(losses[["model", "step", "level", "skill", "skill_low", "skill_high"]].dropna())
    metadata["expected_shortfall"] = table(
        rows.loc[rows["measure"] == "es", ["model", "step", "level", "es_z", "es_p"]]
    )
    if len(backtest.events):
        metadata["reliability"] = chart(home, reliability_chart, reliability(backtest.events))
        events = rows[rows["measure"].isin(["drawdown", "touch"])]
        metadata["probabilities"] = table(
            events[["model", "measure", "level", "n", "exceptions", "expected", "score", "skill", "reliability"]]
        )
    return metadata
