"""The backtest stage in Dagster: signals, Qlib's provider, the backtest and its report, and what must hold of them.

https://docs.dagster.io/guides/build/assets. Belongs here: what depends on what, and what a person sees of it. Not
here: how a signal is made (signals), result (qlib_backtest), measured (measures) or shown (report).

None is partitioned: each materialisation covers every model that has forecasts.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from assets.backtests import acceptance as checks
from assets.backtests.plan import NoBacktest
from assets.backtests.qlib_provider import current_provider, publish_provider
from assets.backtests.results import BacktestRequest, backtest_request, digest_of_frame, run_backtest, store_backtest
from assets.backtests.signals import Signals, make_signals, read_signals, store_signals
from assets.forecasting.registry import checkpoints_in_use
from assets.market.universe import read_universe
from assets.metadata import OWNERS, picture, schema, table
from resources.candlecast import Candlecast
from resources.progress import progress_of

GROUP = "backtests"
SIGNAL_COLUMNS = {
    "model": "string",
    "checkpoint": "string",
    "symbol": "string",
    "origin": "timestamp, UTC",
    "value": "double, expected simple return over the horizon",
}
PROVIDER_COLUMNS = {
    "open, high, low, close": "float32, adjusted",
    "volume": "float32, as quoted ÷ factor",
    "factor": "float32, adjusted ÷ quoted",
    "change": "float32, on the bar before",
}
DAY_COLUMNS = {
    "model": "string",
    "session": "date",
    "gross": "double, return before costs",
    "cost": "double, of the account",
    "net": "double, gross − cost",
    "benchmark": "double, return of the universe",
    "turnover": "double, traded ÷ account",
}


def build_assets(sessions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """signals, qlib_provider and backtest_report, with their checks."""
    return [_signals(), _qlib_provider(), _backtest_report(), *_checks()]


def _signals() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="4",
        deps=["bars", "baseline_forecasts", "kronos_forecasts", "chronos2_forecasts"],
        pool="warehouse",
    )
    def signals(context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult:
        """What each model expects each symbol to return over the horizon: the mean of its quantile forecast.

        Out-of-sample forecasts of the checkpoint in use alone, from origins since windows.test began, of symbols that
        were members of the universe on the origin's day. A model without an opinion has no signals.
        """
        made = _make(candlecast)
        if store_signals(candlecast.warehouse, made.frame):
            context.log.info("%d signals", len(made.frame))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of_frame(made.frame)), metadata=_signal_metadata(made)
        )

    return signals


def _signal_metadata(made: Signals) -> Mapping[str, Any]:
    counts = made.frame.groupby("model", as_index=False).agg(
        signals=("value", "size"), origins=("origin", "nunique"), symbols=("symbol", "nunique")
    )
    shown: dict[str, Any] = {
        "dagster/row_count": len(made.frame),
        "dagster/column_schema": schema(SIGNAL_COLUMNS),
        "horizon": made.step,
        "models": table(counts),
        "left_out": table(pd.DataFrame([vars(one) for one in made.omissions])) if made.omissions else "nothing",
    }
    if len(made.frame):
        from assets.backtests.plots import signals_plot

        shown["expected_returns"] = picture(signals_plot(made.frame))
    return shown


def _qlib_provider() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP, kinds={"qlib"}, owners=OWNERS, code_version="1", deps=["bars", "corporate_actions"]
    )  # fmt: skip
    def qlib_provider(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        """The bars in Qlib's binary format, adjusted as of the newest bar, in a folder named by its content."""
        from assets.backtests.plots import provider_plot

        provider = publish_provider(candlecast.warehouse, candlecast.home, candlecast.calendar)
        names = pd.DataFrame(sorted(provider.ids.items()), columns=["symbol", "in Qlib"])
        return dg.MaterializeResult(
            data_version=dg.DataVersion(provider.digest),
            metadata={
                "dagster/row_count": provider.bars,
                "dagster/column_schema": schema(PROVIDER_COLUMNS),
                "folder": dg.MetadataValue.path(str(provider.folder)),
                "sessions": len(provider.sessions),
                "symbols": table(names),
                "coverage": picture(provider_plot(provider)),
            },
        )

    return qlib_provider


def _backtest_report() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP,
        kinds={"qlib", "html"},
        owners=OWNERS,
        code_version="3",
        deps=["signals", "qlib_provider", "scoreboard", "kronos_tokenizer", "kronos_predictor", "chronos2_model"],
        pool="warehouse",
    )
    def backtest_report(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        """TopkDropout through Qlib for every model, and one report of everything: HTML, pictures and JSON.

        Found again, not made again, when nothing that it shows has changed.
        """
        from assets.backtests.report.contents import read_contents
        from assets.backtests.report.publish import publish_report

        settings, warehouse, checkpoints = candlecast.settings, candlecast.warehouse, candlecast.checkpoints
        request = _request(candlecast)
        result = run_backtest(request, candlecast.home, progress_of("backtest_report"))
        if isinstance(result.plan, NoBacktest):
            context.log.warning("%s", result.plan.reason)
        store_backtest(warehouse, result)
        used, omissions = checkpoints_in_use(settings, checkpoints), _make(candlecast).omissions
        contents = read_contents(settings, warehouse, checkpoints, used, result, omissions, request.provider.digest)
        report = publish_report(contents, candlecast.home)
        verdict = report.summary["verdict"]
        shown: dict[str, Any] = {
            "dagster/row_count": len(result.days),
            "dagster/column_schema": schema(DAY_COLUMNS),
            "report": dg.MetadataValue.path(str(report.html)),
            "verdict": dg.MetadataValue.md("\n".join(f"- {line}" for line in verdict)),
            "backtest_recipe": result.recipe,
        }
        if len(result.days):
            wide = result.measures.pivot(index="metric", columns="model", values="value").reset_index()
            shown["measures"] = table(wide)
            shown["equity"] = picture((report.folder / "equity.png").read_bytes())
        return dg.MaterializeResult(data_version=dg.DataVersion(report.digest), metadata=shown)

    return backtest_report


def _make(candlecast: Candlecast) -> Signals:
    settings, warehouse = candlecast.settings, candlecast.warehouse
    step = settings.backtest.signal_step or settings.windows.predict_window
    used, universe = checkpoints_in_use(settings, candlecast.checkpoints), read_universe(settings, warehouse)
    return make_signals(warehouse, settings.market.frequency, step, used, universe, settings.windows.test[0])


def _request(candlecast: Candlecast) -> BacktestRequest:
    settings, warehouse = candlecast.settings, candlecast.warehouse
    return backtest_request(
        settings, read_signals(warehouse), current_provider(candlecast.home), read_universe(settings, warehouse)
    )


def _checks() -> list[dg.AssetChecksDefinition]:
    @dg.asset_check(asset="signals", blocking=True)
    def signals_stand_on_unseen_forecasts(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Every signal is finite and has an out-of-sample forecast behind it."""
        return _checked(checks.signal_problems(candlecast.warehouse, read_signals(candlecast.warehouse)))

    @dg.asset_check(asset="qlib_provider", blocking=True)
    def qlib_reads_the_bars(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Every bar comes back from the provider as it went in, and nothing else does."""
        return _checked(
            checks.provider_problems(
                candlecast.warehouse, current_provider(candlecast.home), candlecast.settings.market.frequency
            )
        )

    @dg.asset_check(asset="backtest_report", blocking=True)
    def money_is_conserved(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Net is gross less costs on every day, and the account grows by it."""
        days = run_backtest(_request(candlecast), candlecast.home).days
        return _checked(checks.accounting_problems(days, candlecast.settings.backtest.account) if len(days) else [])

    @dg.asset_check(asset="backtest_report", blocking=True)
    def qlib_and_our_loop_agree(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Qlib's days and those of an independent loop are the same to 1e-10."""
        request = _request(candlecast)
        apart = checks.largest_difference(request, run_backtest(request, candlecast.home).days)
        problems = [f"they differ by {apart:.2g}"] if apart is not None and apart > checks.TOLERANCE else []
        return _checked(problems, {} if apart is None else {"largest_difference": apart})

    @dg.asset_check(asset="backtest_report", blocking=True)
    def report_asks_nothing_of_the_network(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """The report is one file: nothing in it is fetched from elsewhere."""
        from assets.backtests.report.publish import latest_report

        report = latest_report(candlecast.home)
        if report is None:
            return _checked(["there is no report: materialise backtest_report"])
        return _checked(
            [f"it loads {found}" for found in checks.external_resources(report.html.read_text(encoding="utf-8"))]
        )

    return [
        signals_stand_on_unseen_forecasts,
        qlib_reads_the_bars,
        money_is_conserved,
        qlib_and_our_loop_agree,
        report_asks_nothing_of_the_network,
    ]


def _checked(problems: list[str], metadata: Mapping[str, Any] | None = None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(problems) or None,
        metadata=dict(metadata or {}),
    )
