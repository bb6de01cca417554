"""The asset checks of the market stage: conservation of rows and the contract, blocking; doubtful actions, as warnings.

https://docs.dagster.io/guides/test/asset-checks. Not here: how a problem is found (acceptance, actions).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from typing import TYPE_CHECKING

import dagster as dg

from assets.metadata import table
from resources.candlecast import Candlecast

if TYPE_CHECKING:
    import pandas as pd

SHOWN_PAYLOADS = 20
SHOWN_ROWS = 3
# A run of later stages repeats them: a run that failed or was killed may have left bars on which they never passed.
GATES = (
    ("bars", "rows_are_conserved"),
    ("bars", "bars_satisfy_the_contract"),
    ("bars", "every_symbol_has_bars"),
    ("bars", "few_rows_are_rejected"),
    ("corporate_actions", "actions_follow_from_bars"),
)


def gate() -> dg.AssetSelection:
    """The market's checks that have to pass before anything is trained or forecast."""
    return dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey([asset]), name) for asset, name in GATES))


def build_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of bars and corporate_actions."""
    return [
        _rows_are_conserved(),
        _bars_satisfy_the_contract(),
        _every_symbol_has_bars(),
        _few_rows_are_rejected(),
        _no_unreported_splits(),
        _no_bar_holds_a_later_price(),
        _actions_follow_from_bars(),
        _dividends_are_below_the_price(),
        _corporate_actions_are_complete(),
        _stated_actions_match_the_adjusted_close(),
        _no_payload_was_refused(),
        _values_fit_their_units(),
        _payloads_are_in_the_lake(),
    ]


def _rows_are_conserved() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars", blocking=True)
    def rows_are_conserved(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """received = kept + folded + rejected for every payload, and each of these rows is in its table."""
        from assets.market.acceptance import conservation_errors
        from assets.market.ingest.lake import Lake

        wrong = conservation_errors(candlecast.warehouse, Lake(candlecast.home))
        return dg.AssetCheckResult(
            passed=not wrong,
            description="\n".join(wrong[:SHOWN_PAYLOADS]) + "\nRebuild bars from the lake."
            if wrong
            else "received = kept + folded + rejected for every payload",
        )

    return rows_are_conserved


def _bars_satisfy_the_contract() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars", blocking=True)
    def bars_satisfy_the_contract(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Stored bars are finite and positive, low ≤ open, close ≤ high, and every key is unique."""
        from assets.market.acceptance import contract_violations, duplicate_keys

        found = contract_violations(candlecast.warehouse, candlecast.settings.market.frequency)
        duplicates = duplicate_keys(candlecast.warehouse)
        problem = _first(found, "violate the contract") or _first(duplicates, "have a duplicate key")
        return dg.AssetCheckResult(
            passed=not problem,
            description=problem or "all bars satisfy the contract",
            metadata={"violations": table(found)} if len(found) else {},
        )

    return bars_satisfy_the_contract


def _every_symbol_has_bars() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars", blocking=True)
    def every_symbol_has_bars(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Every symbol of `market.symbols` has bars; if all rows were rejected, the description names the rules."""
        from assets.market.acceptance import symbols_without_bars
        from assets.market.selection import wanted_symbols
        from assets.market.summary import bar_count, rejection_text

        warehouse, frequency = candlecast.warehouse, candlecast.settings.market.frequency
        count = bar_count(warehouse, frequency)
        missing = symbols_without_bars(warehouse, frequency, wanted_symbols(candlecast.settings))
        description = f"{count:,} bars"
        if missing:
            description = f"no bars of {', '.join(missing)}: check the source and the spelling in market.symbols"
        if not count:
            rules = rejection_text(warehouse, frequency) or "none, the source is empty"
            description = f"no row satisfies the contract; rejected: {rules}"
        return dg.AssetCheckResult(passed=count > 0 and not missing, metadata={"bars": count}, description=description)

    return every_symbol_has_bars


def _few_rows_are_rejected() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars", blocking=True)
    def few_rows_are_rejected(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """No file lost more of its rows than `market.max_rejected` allows; each one is named with its rules."""
        from assets.market.outcomes import excess_rejections

        market = candlecast.settings.market
        excess = excess_rejections(candlecast.warehouse, market.frequency, market.max_rejected)
        return dg.AssetCheckResult(
            passed=not excess, description="\n".join(excess[:SHOWN_PAYLOADS]) or "no file lost too many rows"
        )

    return few_rows_are_rejected


def _no_unreported_splits() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars")
    def no_unreported_splits(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """No price changed overnight by the ratio of a split that is not reported."""
        from assets.market.acceptance import possible_splits

        found = possible_splits(candlecast.warehouse, candlecast.settings.market.frequency)
        return dg.AssetCheckResult(
            passed=found.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description=_first(found, "look like unreported splits: check them") or "none",
            metadata={"bars": table(found)} if len(found) else {},
        )

    return no_unreported_splits


def _no_bar_holds_a_later_price() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars")
    def no_bar_holds_a_later_price(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Overnight moves, ranges and closes have the statistics of prices of their own day, for every symbol."""
        from assets.market.acceptance import LEAK_SESSIONS, leak_signs

        found = leak_signs(candlecast.warehouse, candlecast.settings.market.frequency)
        shown = "; ".join(
            f"{row['symbol']} {row['first']:%Y-%m-%d} … {row['last']:%Y-%m-%d}: "
            f"{row['sign']} {row['value']:.2f}, limit {row['limit']:.2f}"
            for row in found.head(SHOWN_ROWS).to_dict("records")
        )
        problem = (
            f"{len(found)} symbols look as if prices belonged to another day ({shown}): compare some closes with "
            "another source, and check how the file was made (shifted columns, market.stamp, market.timezone)"
        )
        return dg.AssetCheckResult(
            passed=found.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description=problem if len(found) else f"none, judged from {LEAK_SESSIONS} sessions on",
            metadata={"symbols": table(found)} if len(found) else {},
        )

    return no_bar_holds_a_later_price


def _actions_follow_from_bars() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="corporate_actions", blocking=True)
    def actions_follow_from_bars(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """corporate_actions has exactly the splits and dividends that the stored bars report."""
        from assets.market.actions import actions_differ

        differing = actions_differ(candlecast.warehouse)
        if differing is None:
            return dg.AssetCheckResult(passed=True, description="corporate_actions agrees with bars")
        return dg.AssetCheckResult(
            passed=False,
            description=f"corporate_actions lacks {differing.added} actions that the bars report and has "
            f"{differing.withdrawn} that they do not: materialise corporate_actions (`candlecast run` does)",
        )

    return actions_follow_from_bars


def _dividends_are_below_the_price() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="corporate_actions")
    def dividends_are_below_the_price(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """No dividend reaches the previous close. One that does is left out of the adjustment."""
        from assets.market.actions import impossible_dividends

        found = impossible_dividends(candlecast.warehouse)
        return dg.AssetCheckResult(
            passed=found.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description=_first(found, "have a dividend of at least the previous close: check the source") or "none",
            metadata={"dividends": table(found)} if len(found) else {},
        )

    return dividends_are_below_the_price


def _corporate_actions_are_complete() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="corporate_actions")
    def corporate_actions_are_complete(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """For every bar it is known whether a split or dividend precedes it, and the bars of a session agree."""
        from assets.market.actions import conflicting_actions, unknown_actions

        unknown, conflicting = unknown_actions(candlecast.warehouse), conflicting_actions(candlecast.warehouse)
        problems = [_first(conflicting, "have actions that differ within their session; none is applied: check them")]
        if len(unknown):
            problems.append(
                f"{unknown['bars'].sum():,} bars of {len(unknown)} series have an adjusted close that does not show "
                "whether there was a split or dividend since the previous bar: use payloads that begin one bar "
                "earlier, or columns `dividend` and `split`"
            )
        return dg.AssetCheckResult(
            passed=unknown.empty and conflicting.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(filter(None, problems)) or "complete",
            metadata={"bars": table(unknown)} if len(unknown) else {},
        )

    return corporate_actions_are_complete


def _stated_actions_match_the_adjusted_close() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="corporate_actions")
    def stated_actions_match_the_adjusted_close(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Where a source states actions and an adjusted close, both agree to 0.5 %. The stated actions are used."""
        from assets.market.actions import differing_actions

        found = differing_actions(candlecast.warehouse, candlecast.settings.market.frequency)
        problem = "state a dividend and a split that the adjusted close contradicts: check them with another source"
        return dg.AssetCheckResult(
            passed=found.empty,
            severity=dg.AssetCheckSeverity.WARN,
            description=_first(found, problem) or "all agree",
            metadata={"bars": table(found)} if len(found) else {},
        )

    return stated_actions_match_the_adjusted_close


def _no_payload_was_refused() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars", blocking=True)
    def no_payload_was_refused(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Every file or range of the last request to the source was fetched and parsed; the others are named."""
        from assets.market.ingest.lake import Lake

        refused = Lake(candlecast.home).refused(candlecast.source)
        problem = f"{len(refused)} payloads were refused, all others landed:\n" + "\n".join(refused[:SHOWN_PAYLOADS])
        return dg.AssetCheckResult(passed=not refused, description=problem if refused else "no payload was refused")

    return no_payload_was_refused


def _values_fit_their_units() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars")
    def values_fit_their_units(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """No file's values suggest another unit or symbol: amount beside price × volume, prices beside other files."""
        from assets.market.ingest.file_warnings import file_warnings
        from assets.market.ingest.lake import Lake

        found = file_warnings(Lake(candlecast.home), candlecast.source)
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description="\n".join(found[:SHOWN_PAYLOADS]) or "units and symbols are plausible",
        )

    return values_fit_their_units


def _payloads_are_in_the_lake() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="raw_bars")
    def payloads_are_in_the_lake(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """The newest payload of every request is in the lake. Its content is verified when it is read."""
        from assets.market.acceptance import missing_payloads
        from assets.market.ingest.lake import Lake

        missing = missing_payloads(Lake(candlecast.home))
        problem = f"{len(missing)} payloads are missing from lake/; restore them from a backup:\n"
        return dg.AssetCheckResult(
            passed=not missing,
            severity=dg.AssetCheckSeverity.WARN,
            description=problem + "\n".join(missing[:SHOWN_PAYLOADS]) if missing else "all payloads are in the lake",
        )

    return payloads_are_in_the_lake


def _first(found: "pd.DataFrame", problem: str) -> str:
    """The number of bars with a problem and the first of them; empty: none."""
    if found.empty:
        return ""
    rows = "; ".join(" ".join(map(str, row)) for row in found.head(SHOWN_ROWS).itertuples(index=False))
    return f"{len(found)} bars {problem}, first: {rows}"
