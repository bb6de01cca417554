"""The market stage in Dagster: payloads as received, bars that keep the contract, splits and dividends.

https://docs.dagster.io/guides/build/assets. Belongs here: reading through resources, calling one plain function,
writing through a resource, and what a person sees. Not here: how it is done (the modules beside this one).
"""

from typing import Any

import dagster as dg

from assets.market.acceptance import coverage, flags, latest_prices, rejections, sessions_without_bars
from assets.market.actions import refresh_actions
from assets.market.checks import build_checks
from assets.market.ingest.digests import digest_of_actions, digest_of_bars, session_digests
from assets.market.ingest.ingest import ingest
from assets.market.ingest.lake import Lake, PayloadsRefusedError
from assets.market.ingest.landing import land
from assets.market.ingest.pending import wanted_by
from assets.market.plots import BLUE, actions_picture, counts_picture, coverage_picture
from assets.metadata import OWNERS, picture, schema, table, tell_newest
from assets.sessions import sessions_of
from resources.candlecast import Candlecast
from resources.progress import progress_of
from resources.publish import digest_of

GROUP = "market"
BAR_COLUMNS = {
    "symbol": "string",
    "ts": "timestamp, UTC",
    "session": "date",
    "frequency": "string",
    "open": "double, as quoted",
    "high": "double, as quoted",
    "low": "double, as quoted",
    "close": "double, as quoted",
    "volume": "double or null",
    "amount": "double or null",
    "flags": "string[]",
    "source": "string",
    "payload_sha256": "string",
    "available_at": "timestamp, UTC",
    "dividend": "double or null",
    "split": "double or null",
    "actions": "string or null",
    "batch": "bigint",
}
ACTION_COLUMNS = {
    "symbol": "string",
    "ex_date": "date",
    "kind": "'split' or 'dividend'",
    "value": "double",
    "price_factor": "double",
    "origin": "string",
    "source": "string",
    "payload_sha256": "string",
    "available_at": "timestamp, UTC",
}


class RawBarsConfig(dg.Config):
    """How payloads are fetched."""

    refresh: bool = False
    """Ask a network source again for sessions whose payload is already in the lake."""


def build_assets(sessions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """raw_bars, bars and corporate_actions, with their checks."""
    return [_raw_bars(sessions), _bars(sessions), _corporate_actions(), *build_checks(), _payloads_are_here()]


def _payloads_are_here() -> dg.AssetChecksDefinition:
    @dg.asset_check(asset="bars", blocking=True)
    def every_payload_was_taken(candlecast: dg.ResourceParam[Candlecast]) -> dg.AssetCheckResult:
        """Every file or range that the source was last asked for could be had and read; else each is named."""
        refused = Lake(candlecast.home).refused(candlecast.source)
        told = f"{len(refused)} payloads were not taken, all others were:\n" + "\n".join(refused[:20])
        return dg.AssetCheckResult(passed=not refused, description=told if refused else "all of them")

    return every_payload_was_taken


def _raw_bars(sessions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=GROUP,
        kinds={"parquet"},
        owners=OWNERS,
        code_version="1",
    )
    def raw_bars(
        context: dg.AssetExecutionContext, config: RawBarsConfig, candlecast: dg.ResourceParam[Candlecast]
    ) -> dg.MaterializeResult:
        """Every payload of the source exactly as it was received, in the lake: Parquet, content-addressed, for ever.

        A payload that is there already is not fetched again; a changed one is a new payload beside the old. One that
        cannot be had, or not be read as bars, keeps none of the others out; a check of `bars` then fails and names it.
        """
        lake, wanted_sessions = Lake(candlecast.home), sessions_of(context)
        wanted = wanted_by(candlecast.settings, wanted_sessions[0], wanted_sessions[-1])
        landed_now, refused = 0, []
        try:
            _, batch = land(
                lake, candlecast.warehouse, candlecast.source, wanted, config.refresh, progress_of("raw_bars")
            )
            landed_now = len(batch.payloads) if batch else 0
        except PayloadsRefusedError as error:
            context.log.error(str(error))
            refused = error.reasons
        payloads = lake.payloads_of(candlecast.source)
        tell_newest(
            context,
            {
                "folder": dg.MetadataValue.path(candlecast.home.lake / candlecast.source.name),
                "latest_payloads": table(payloads.sort_values(["fetched_at", "file"], ascending=[False, True])),
            },
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of(sorted(zip(payloads["key"], payloads["sha256"], strict=True)))),
            metadata={
                "dagster/row_count": int(payloads["rows"].sum()),
                "payloads": len(payloads),
                "landed_now": landed_now,
                **({"refused": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in refused))} if refused else {}),
                "source": candlecast.source.name,
            },
        )

    return raw_bars


def _bars(sessions: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=sessions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=["raw_bars"],
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="1",
        pool="warehouse",
    )
    def bars(context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult:
        """Bars that keep the contract, as quoted; rows that break it are in `rejected_bars` with the rule and a reason.

        received = kept + folded + rejected, for every payload.
        """
        done = ingest(Lake(candlecast.home), candlecast.warehouse, progress_of("bars"))
        wanted, frequency = sessions_of(context), candlecast.settings.market.frequency
        digests = session_digests(candlecast.warehouse, frequency, wanted[0], wanted[-1])
        tell_newest(context, _seen_of_bars(candlecast))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of_bars(digests, wanted)),
            metadata={
                "dagster/row_count": int(digests["rows"].sum()),
                "sessions": len(wanted),
                "sessions_without_bars": len(sessions_without_bars(candlecast.warehouse, frequency, wanted)),
                "sessions_changed": len(done.sessions),
                "received": done.received,
                "kept": done.kept,
                "folded": done.folded,
                "rejected": done.rejected,
            },
        )

    return bars


def _seen_of_bars(candlecast: Candlecast) -> dict[str, Any]:
    """Pictures and tables of all bars of the calendar's frequency."""
    warehouse, calendar = candlecast.warehouse, candlecast.calendar
    frequency = calendar.frequency
    refused, flagged = rejections(warehouse, frequency), flags(warehouse, frequency)
    by_rule, by_flag = refused.set_index("rule")["rows"], flagged.set_index("flag")["bars"]
    return {
        "dagster/column_schema": schema(BAR_COLUMNS),
        "coverage": picture(coverage_picture(coverage(warehouse, calendar))),
        "rejected_rows": picture(counts_picture(by_rule, "Rejected rows by rule, all payloads")),
        "rejections_by_rule": table(refused),
        "flagged_bars": picture(counts_picture(by_flag, "Flagged bars", BLUE)),
        "flags": table(flagged),
        "latest_prices": table(latest_prices(warehouse, frequency)),
    }


def _corporate_actions() -> dg.AssetsDefinition:
    @dg.asset(
        deps=["bars"],
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        code_version="1",
        pool="warehouse",
    )
    def corporate_actions(candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult:
        """Splits and dividends with their price factors: from the source, or derived from its adjusted close."""
        refreshed = refresh_actions(candlecast.warehouse)
        actions = candlecast.warehouse.frame("FROM corporate_actions ORDER BY ex_date DESC, symbol, kind")
        metadata: dict[str, Any] = {
            "dagster/row_count": refreshed.total,
            "dagster/column_schema": schema(ACTION_COLUMNS),
            "added": refreshed.added,
            "withdrawn": refreshed.withdrawn,
            "newest": table(actions[["symbol", "ex_date", "kind", "value", "price_factor", "origin"]]),
        }
        if len(actions):
            metadata["by_year"] = picture(actions_picture(actions))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of_actions(candlecast.warehouse)), metadata=metadata
        )

    return corporate_actions
