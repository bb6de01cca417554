"""What must hold of the bars before anything downstream may use them.

https://docs.dagster.io/guides/test/asset-checks. Not here: how it is found out (quality).
"""

from collections.abc import Sequence

import dagster as dg
import pandas as pd

from assets.market.acceptance import (
    bars_and_rules,
    breaches,
    keys_twice,
    possible_splits,
    rows_that_do_not_add_up,
    symbols_without_bars,
)
from assets.market.actions import contradicting_actions, impossible_dividends, unknown_actions
from assets.market.ingest.lake import Lake
from assets.market.universe import wanted_symbols
from assets.metadata import table
from resources.candlecast import Candlecast


def build_checks() -> Sequence[dg.AssetChecksDefinition]:
    """Row conservation and the contract, blocking; what is doubtful about splits and dividends, as warnings."""
    return [
        _rows_add_up(),
        _contract_holds(),
        _there_are_bars(),
        _no_unreported_split(),
        _dividends_are_possible(),
        _actions_are_known(),
    ]


def _rows_add_up() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars", blocking=True)
    def every_row_is_accounted_for(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """received = kept + folded + rejected for every payload, and each of these rows is where it should be."""
        wrong = rows_that_do_not_add_up(candlecast.warehouse, Lake(candlecast.home))
        return dg.AssetCheckResult(
            passed=not wrong,
            description="\n".join(wrong[:20]) + "\nRebuild bars from the lake."
            if wrong
            else "every row is accounted for",
        )

    return every_row_is_accounted_for


def _contract_holds() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars", blocking=True)
    def bars_keep_the_contract(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Stored bars are finite, positive, low ≤ open, close ≤ high, and each key is there once."""
        found = breaches(candlecast.warehouse, candlecast.settings.market.frequency)
        twice = keys_twice(candlecast.warehouse)
        return dg.AssetCheckResult(
            passed=found.empty and twice.empty,
            description=_first(found, "break the contract") or _first(twice, "are there twice") or "all bars keep it",
            metadata={"breaches": table(found)} if len(found) else {},
        )

    return bars_keep_the_contract


def _there_are_bars() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars", blocking=True)
    def there_are_bars(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Every symbol that the settings name has bars; when every row was rejected, the message says why."""
        frequency = candlecast.settings.market.frequency
        count, rules = bars_and_rules(candlecast.warehouse, frequency)
        missing = symbols_without_bars(candlecast.warehouse, frequency, wanted_symbols(candlecast.settings))
        told = f"{count:,} bars"
        if missing:
            told = f"market.symbols names {', '.join(missing)}, of which there are no bars: check source and spelling"
        if not count:
            told = f"no bar kept the contract; rejected: {rules or 'nothing either'}"
        return dg.AssetCheckResult(passed=count > 0 and not missing, metadata={"bars": count}, description=told)

    return there_are_bars


def _no_unreported_split() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars")
    def no_split_went_unreported(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """No price changed overnight by a ratio that splits have without a split being reported."""
        found = possible_splits(candlecast.warehouse, candlecast.settings.market.frequency)
        return dg.AssetCheckResult(
            passed=found.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description=_first(found, "look like splits that nobody reported: check them") or "none",
            metadata={"bars": table(found)} if len(found) else {},
        )

    return no_split_went_unreported


def _dividends_are_possible() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="corporate_actions")
    def dividends_are_less_than_the_price(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """No dividend is as large as the price of the day before. Such a one is left out of the adjustment."""
        found = impossible_dividends(candlecast.warehouse)
        return dg.AssetCheckResult(
            passed=found.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description=_first(found, "pay at least their whole price: check the source") or "none",
            metadata={"dividends": table(found)} if len(found) else {},
        )

    return dividends_are_less_than_the_price


def _actions_are_known() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="corporate_actions")
    def every_action_is_known(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Each bar's payload says what happened since the bar before it, and a session's bars say the same."""
        found, apart = unknown_actions(candlecast.warehouse), contradicting_actions(candlecast.warehouse)
        told = [_first(apart, "tell actions that differ within their session, and none is taken: check them")]
        if len(found):
            told.append(
                f"{found['bars'].sum():,} bars of {len(found)} series with an adjusted close that does not say whether "
                "there was a split or dividend since the bar before: give payloads that begin a bar earlier, or "
                "columns `dividend` and `split`"
            )
        return dg.AssetCheckResult(
            passed=found.empty and apart.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(filter(None, told)) or "none is missing",
            metadata={"bars": table(found)} if len(found) else {},
        )

    return every_action_is_known


def _first(found: pd.DataFrame, what: str) -> str:
    if found.empty:
        return ""
    rows = "; ".join(" ".join(map(str, row)) for row in found.head(3).itertuples(index=False))
    return f"{len(found)} bars {what}, first: {rows}"
