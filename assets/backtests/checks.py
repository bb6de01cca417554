"""The asset checks of the backtest stage, all blocking.

https://docs.dagster.io/guides/test/asset-checks. Not here: how a problem is found (acceptance).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from collections.abc import Mapping, Sequence

import dagster as dg

from resources.candlecast import Candlecast


def build_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of signals, qlib_provider and backtest_report."""
    return [
        _signals_are_out_of_sample(),
        _provider_equals_the_bars(),
        _accounts_reconcile(),
        _qlib_equals_the_reference_loop(),
        _report_is_self_contained(),
    ]


def _signals_are_out_of_sample() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="signals", blocking=True)
    def signals_are_out_of_sample(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Every signal is finite and comes from an out-of-sample forecast."""
        from assets.backtests.acceptance import signal_problems
        from assets.backtests.signals import read_signals

        return _result(signal_problems(candlecast.warehouse, read_signals(candlecast.warehouse)))

    return signals_are_out_of_sample


def _provider_equals_the_bars() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="qlib_provider", blocking=True)
    def provider_equals_the_bars(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Reading the provider through Qlib returns every bar of the warehouse, and no other."""
        from assets.backtests.acceptance import provider_problems
        from assets.backtests.qlib_provider import current_provider

        frequency = candlecast.settings.market.frequency
        return _result(provider_problems(candlecast.warehouse, current_provider(candlecast.home), frequency))

    return provider_equals_the_bars


def _accounts_reconcile() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="backtest_report", blocking=True)
    def accounts_reconcile(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """On every day net = gross − cost, and the account grows by net."""
        from assets.backtests.acceptance import accounting_problems
        from assets.backtests.results import current_request, run_backtest

        settings, home = candlecast.settings, candlecast.home
        days = run_backtest(current_request(settings, candlecast.warehouse, home), home).days
        return _result(accounting_problems(days, settings.backtest.account) if len(days) else [])

    return accounts_reconcile


def _qlib_equals_the_reference_loop() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="backtest_report", blocking=True)
    def qlib_equals_the_reference_loop(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """The daily returns of Qlib and of an independent implementation are equal to 1e-10, on every session.

        Those that Qlib simulated in an earlier run are compared again.
        """
        from assets.backtests.acceptance import largest_difference
        from assets.backtests.results import current_request, run_backtest

        home = candlecast.home
        request = current_request(candlecast.settings, candlecast.warehouse, home)
        result = run_backtest(request, home)
        difference = largest_difference(request, result)
        if difference is None:
            return _result([])
        problems = [difference.problem] if difference.problem else []
        compared = {"sessions": result.days["session"].nunique(), "models": result.days["model"].nunique()}
        return _result(problems, {"largest_difference": difference.size, **compared})

    return qlib_equals_the_reference_loop


def _report_is_self_contained() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="backtest_report", blocking=True)
    def report_is_self_contained(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """The report is one file that loads nothing from elsewhere."""
        from assets.backtests.acceptance import external_resources
        from assets.backtests.report.published import latest_report

        report = latest_report(candlecast.home)
        if report is None:
            return _result(["there is no report: materialise backtest_report"])
        found = external_resources(report.html.read_text(encoding="utf-8"))
        return _result([f"it loads {resource}" for resource in found])

    return report_is_self_contained


def _result(problems: Sequence[str], metadata: Mapping[str, float] | None = None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(problems) or None,
        metadata=dict(metadata or {}),
    )
