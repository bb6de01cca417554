"""The assets of the backtest stage: signals, the Qlib provider, the backtests and their report.

https://docs.dagster.io/guides/build/assets. Belongs here: dependencies and metadata. Not here: how signals are computed
(signals), simulated (qlib_backtest), measured (measures) and shown (report), and the checks (checks).

None is partitioned: each materialisation covers every model that has forecasts. Modules that compute are imported
inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.backtests.checks import build_checks
from assets.metadata import (
    OWNERS,
    chart,
    column_lineage,
    home_path,
    inline_bullets,
    picture,
    schema,
    served_report,
    table,
)
from resources.candlecast import Candlecast
from resources.layout import Home
from resources.progress import progress_of
from resources.settings import Settings

if TYPE_CHECKING:
    from assets.backtests.signals import SignalSet

GROUP = "backtests"
SIGNAL_COLUMNS = schema(
    {
        "model": ("string", ""),
        "checkpoint": ("string", "digest of weights and recipe"),
        "symbol": ("string", ""),
        "origin": ("timestamp", "UTC, the last bar that the forecast used"),
        "value": ("double", "expected simple return over the horizon"),
    }
)
PROVIDER_COLUMNS = schema(
    {
        **dict.fromkeys(("open", "high", "low", "close"), ("float32", "adjusted")),
        "volume": ("float32", "as quoted ÷ factor"),
        "factor": ("float32", "adjusted ÷ quoted"),
        "change": ("float32", "return on the previous bar"),
    }
)
DAY_COLUMNS = schema(
    {
        "model": ("string", ""),
        "session": ("date", ""),
        "gross": ("double", "return before costs"),
        "cost": ("double", "share of the account"),
        "net": ("double", "gross − cost"),
        "benchmark": ("double", "return of the universe"),
        "turnover": ("double", "traded value ÷ account"),
    }
)

PROVIDER_LINEAGE = column_lineage(
    {
        **{name: [f"bars.{name}", "corporate_actions.price_factor"] for name in ("open", "high", "low", "close")},
        "volume": ["bars.volume", "corporate_actions.price_factor"],
        "factor": ["corporate_actions.price_factor"],
        "change": ["bars.close", "corporate_actions.price_factor"],
    }
)
DAY_LINEAGE = column_lineage(
    {
        "model": ["signals.model"],
        **{
            name: ["signals.value", "qlib_provider.open", "qlib_provider.close"]
            for name in ("gross", "cost", "net", "turnover")
        },
        "benchmark": ["qlib_provider.open", "qlib_provider.close"],
    }
)


def build_assets(
    settings: Settings, sessions: dg.DailyPartitionsDefinition
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """signals, qlib_provider and backtest_report, with their checks."""
    return [_signals(settings.forecast_assets), _qlib_provider(), _backtest_report(), *build_checks()]


def signal_lineage(forecasts: Sequence[str]) -> dg.TableColumnLineage:
    """The columns that signals are computed from, of these assets of forecasts and of the bars."""
    names = ("model", "checkpoint", "symbol", "origin")
    values = [*(f"{asset}.value" for asset in forecasts), "bars.close"]
    return column_lineage({**{name: [f"{asset}.{name}" for asset in forecasts] for name in names}, "value": values})


def _signals(forecasts: Sequence[str]) -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="5",
        deps=["bars", *forecasts],
        pool="warehouse",
    )
    def signals(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """The expected return of each symbol over the horizon by each model: the mean of its quantile forecast.

        Of out-of-sample forecasts by the checkpoints in use, from origins since the start of `windows.test`, for
        symbols that belong to the universe on the day of the origin. A model that expects the same return of every
        symbol has no signals.
        """
        from assets.backtests.results import digest_of_frame
        from assets.backtests.signals import store_signals

        signal_set = _make_signals(candlecast)
        if store_signals(candlecast.warehouse, signal_set):
            context.log.info("%d signals", len(signal_set.frame))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of_frame(signal_set.frame)),
            metadata={
                **_signal_metadata(signal_set, candlecast.home),
                "dagster/column_lineage": signal_lineage(forecasts),
            },
        )

    return signals


def _signal_metadata(signal_set: "SignalSet", home: Home) -> dict[str, Any]:
    import pandas as pd

    counts = signal_set.frame.groupby("model", as_index=False).agg(
        signals=("value", "size"), origins=("origin", "nunique"), symbols=("symbol", "nunique")
    )
    omissions = [vars(one) for one in signal_set.omissions]
    metadata: dict[str, Any] = {
        "dagster/row_count": len(signal_set.frame),
        "dagster/column_schema": SIGNAL_COLUMNS,
        "horizon": signal_set.step,
        "models": table(counts),
        "left_out": table(pd.DataFrame(omissions)) if omissions else "nothing",
    }
    if len(signal_set.frame):
        from assets.backtests.plots import expected_returns, signals_plot

        metadata["expected_returns"] = chart(home, signals_plot, expected_returns(signal_set.frame))
    return metadata


def _qlib_provider() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP, kinds={"qlib"}, owners=OWNERS, code_version="2", deps=["bars", "corporate_actions"]
    )  # fmt: skip
    def qlib_provider(candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult[None]:
        """The bars in Qlib's binary format, adjusted as of the first bar, in a folder named by its digest.

        As in Qlib's own data, a split or dividend changes the prices from its day on, and none before.
        """
        import pandas as pd

        from assets.backtests.plots import bar_ranges, provider_plot
        from assets.backtests.qlib_provider import publish_provider

        provider = publish_provider(candlecast.warehouse, candlecast.home, candlecast.calendar)
        names = pd.DataFrame(sorted(provider.ids.items()), columns=["symbol", "in Qlib"])
        return dg.MaterializeResult(
            data_version=dg.DataVersion(provider.digest),
            metadata={
                "dagster/row_count": provider.bars,
                "dagster/column_schema": PROVIDER_COLUMNS,
                "dagster/column_lineage": PROVIDER_LINEAGE,
                "folder": home_path(provider.folder, candlecast.home),
                "sessions": len(provider.sessions),
                "symbols": table(names),
                "coverage": chart(candlecast.home, provider_plot, bar_ranges(provider), len(provider.ids)),
            },
        )

    return qlib_provider


def _backtest_report() -> dg.AssetsDefinition:
    @dg.asset(
        group_name=GROUP,
        kinds={"qlib", "html"},
        owners=OWNERS,
        code_version="4",
        deps=[
            "signals",
            "qlib_provider",
            "scoreboard",
            "risk_backtest",
            "kronos_tokenizer",
            "kronos_predictor",
            "chronos2_model",
            "volatility_model",
        ],
        pool="warehouse",
    )
    def backtest_report(
        context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult[None]:
        """A TopkDropout backtest of every model in Qlib, and the report on the whole chain: HTML, pictures and JSON.

        Qlib simulates the sessions after the newest stored result with the same inputs, from the accounts there.
        A report whose content has not changed is not written again.
        """
        from assets.backtests.plan import NoBacktest
        from assets.backtests.report.contents import read_contents
        from assets.backtests.report.publish import publish_report
        from assets.backtests.results import current_request, run_backtest, store_backtest
        from assets.backtests.signals import read_omissions
        from assets.forecasting.registry import checkpoints_in_use, models_in_use

        settings, warehouse, checkpoints = candlecast.settings, candlecast.warehouse, candlecast.checkpoints
        request = current_request(settings, warehouse, candlecast.home)
        result = run_backtest(request, candlecast.home, progress_of("backtest_report"))
        if isinstance(result.plan, NoBacktest):
            context.log.warning("%s", result.plan.reason)
        store_backtest(warehouse, result)
        used = checkpoints_in_use(settings, checkpoints)
        omissions = read_omissions(warehouse) or _make_signals(candlecast).omissions
        contents = read_contents(
            settings,
            warehouse,
            checkpoints,
            used,
            result,
            omissions,
            request.provider.digest,
            _market_warnings(context),
            {one.model: (one.family, one.licence) for one in models_in_use(settings, checkpoints)},
        )
        report = publish_report(contents, candlecast.home)
        metadata: dict[str, Any] = {
            "dagster/row_count": len(result.days),
            "dagster/column_schema": DAY_COLUMNS,
            "dagster/column_lineage": DAY_LINEAGE,
            "report": served_report(report.digest),
            **inline_bullets("verdict", report.summary["verdict"]),
            "backtest_recipe": result.recipe,
            "simulated_by": result.engine,
        }
        if len(result.days):
            wide = result.measures.pivot(index="metric", columns="model", values="value").reset_index()
            excess = wide.set_index("metric").T.get("excess_return")
            if excess is not None:
                metadata |= {f"excess_return/{model}": float(value) for model, value in excess.dropna().items()}
            metadata["measures"] = table(wide)
            metadata["equity"] = picture((report.folder / "equity.png").read_bytes(), candlecast.home)
        return dg.MaterializeResult(data_version=dg.DataVersion(report.digest), metadata=metadata)

    return backtest_report


def _market_warnings(context: dg.AssetExecutionContext) -> list[str]:
    """The market's checks whose latest evaluation failed, as text."""
    from assets.checks import failed_checks
    from assets.market.checks import build_checks

    keys = [key for check in build_checks() for key in check.check_keys]
    return [one.text for one in failed_checks(context.instance, keys)]


def _make_signals(candlecast: Candlecast) -> "SignalSet":
    from assets.backtests.signals import make_signals
    from assets.forecasting.registry import checkpoints_in_use
    from assets.market.universe import read_universe

    settings, warehouse = candlecast.settings, candlecast.warehouse
    step = settings.backtest.signal_step or settings.windows.predict_window
    used, universe = checkpoints_in_use(settings, candlecast.checkpoints), read_universe(settings, warehouse)
    return make_signals(warehouse, settings.market.frequency, step, used, universe, settings.windows.test[0])
