"""The assets of the market stage: payloads as received, validated bars, splits and dividends.

https://docs.dagster.io/guides/build/assets. Belongs here: reading through the resource, calling one plain function,
returning metadata. Not here: how it is computed (the modules beside this one), and the checks (checks).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from assets.market.checks import build_checks
from assets.metadata import (
    DATA_VERSION_TAG,
    EMPTY,
    OWNERS,
    add_session_contents,
    add_to_newest_partition,
    bullets,
    chart,
    column_lineage,
    home_path,
    schema,
    table,
)
from assets.sessions import KEY_FORMAT, sessions_of
from resources.candlecast import Candlecast
from resources.progress import progress_of
from resources.publish import digest_of

if TYPE_CHECKING:
    from datetime import date

GROUP = "market"
BAR_COLUMNS = schema(
    {
        "symbol": ("string", "as the source spells it"),
        "ts": ("timestamp", "UTC; of a daily bar its session at 00:00, of an intraday bar its start"),
        "session": ("date", "trading session of the exchange"),
        "frequency": ("string", "1d, 1h, 5min, …"),
        "open": ("double", "as quoted, not adjusted"),
        "high": ("double", "as quoted, not adjusted"),
        "low": ("double", "as quoted, not adjusted"),
        "close": ("double", "as quoted, not adjusted"),
        "volume": ("double", "null where the source has none"),
        "amount": ("double", "traded value; null where the source has none"),
        "flags": ("string[]", "what is unusual about the bar"),
        "source": ("string", "name of the source"),
        "payload_sha256": ("string", "digest of the payload that the bar was read from"),
        "available_at": ("timestamp", "UTC, when the payload was received"),
        "dividend": ("double", "per share, with ex-date on this session; null: not known"),
        "split": ("double", "new shares per old share; null: not known"),
        "actions": ("string", "where dividend and split come from; null: not known"),
        "batch": ("bigint", "number of the ingest that wrote the bar"),
    }
)
ACTION_COLUMNS = schema(
    {
        "symbol": ("string", "as the source spells it"),
        "ex_date": ("date", "first session that trades without the right"),
        "kind": ("string", "split or dividend"),
        "value": ("double", "new shares per old share, or cash per share"),
        "price_factor": ("double", "multiplies the prices before ex_date"),
        "origin": ("string", "reported by the source, or derived from its adjusted close"),
        "source": ("string", "name of the source"),
        "payload_sha256": ("string", "digest of the payload"),
        "available_at": ("timestamp", "UTC, when the payload was received"),
    }
)

ACTION_LINEAGE = column_lineage(
    {
        **{name: [f"bars.{name}"] for name in ("symbol", "source", "payload_sha256", "available_at")},
        "ex_date": ["bars.session"],
        "kind": ["bars.dividend", "bars.split"],
        "value": ["bars.dividend", "bars.split"],
        "price_factor": ["bars.dividend", "bars.split", "bars.close"],
        "origin": ["bars.actions"],
    }
)


class RawBarsConfig(dg.Config):
    """Run configuration of `raw_bars`."""

    refresh: bool = Field(
        False, description="fetch sessions from a network source again whose payload is in the lake already"
    )


def build_assets(sessions: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """raw_bars, bars and corporate_actions, with their checks."""
    return [_raw_bars(sessions), _bars(sessions), _corporate_actions(), *build_checks()]


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
    ) -> dg.MaterializeResult[None]:
        """Payloads of the source as received: immutable, content-addressed Parquet files in the lake.

        A payload that is in the lake is not fetched again; a changed one is stored beside the old one. A payload that
        cannot be fetched or parsed does not stop the others: a check of `bars` fails and names it.
        """
        from assets.market.ingest.lake import Lake
        from assets.market.ingest.landing import land
        from assets.market.ingest.pending import wanted_by
        from assets.market.ingest.refusals import PayloadsRefusedError
        from assets.market.plots import payloads_picture, rows_by_day

        lake, source, covered = Lake(candlecast.home), candlecast.source, sessions_of(context)
        wanted = wanted_by(candlecast.settings, covered[0], covered[-1])
        landed_now, refused = 0, []
        try:
            _, batch = land(lake, candlecast.warehouse, source, wanted, config.refresh, progress_of("raw_bars"))
            landed_now = len(batch.payloads) if batch else 0
        except PayloadsRefusedError as error:
            context.log.error(str(error))
            refused = error.reasons
        payloads = lake.payloads_of(source)
        latest = payloads.sort_values(["fetched_at", "file"], ascending=[False, True])
        folder = home_path(candlecast.home.lake / source.name, candlecast.home)
        pictures = {}
        if len(payloads):
            pictures["received"] = chart(candlecast.home, payloads_picture, rows_by_day(payloads), len(payloads))
        add_to_newest_partition(
            context, {"folder": folder, "latest_payloads": table(latest.drop(columns="key")), **pictures}
        )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of(sorted(zip(payloads["key"], payloads["sha256"], strict=True)))),
            metadata={
                "dagster/row_count": int(payloads["rows"].sum()),
                "payloads": len(payloads),
                "landed_now": landed_now,
                **({"refused": bullets(refused)} if refused else {}),
                "source": source.name,
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
    def bars(context: dg.AssetExecutionContext, candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult[None]:
        """Bars that satisfy the contract, with prices as quoted.

        Rows that break the contract are in `rejected_bars` with the rule and the reason. For every payload,
        received = kept + folded + rejected.
        """
        from assets.market.ingest.digests import contents_by_session, digest_of_bars, session_digests
        from assets.market.ingest.ingest import ingest
        from assets.market.ingest.lake import Lake
        from assets.market.ingest.resampling import RULE
        from assets.market.summary import sessions_without_bars

        warehouse, frequency = candlecast.warehouse, candlecast.settings.market.frequency
        counts = ingest(Lake(candlecast.home), warehouse, progress_of("bars"))
        covered = sessions_of(context)
        digests = session_digests(warehouse, frequency, covered[0], covered[-1])
        add_to_newest_partition(context, _bars_metadata(candlecast))
        add_session_contents(context, contents_by_session(digests), covered)
        _record_changed_sessions(context, candlecast, set(counts.sessions) - set(covered))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest_of_bars(digests, covered)),
            metadata={
                "sessions": len(covered),
                "sessions_without_bars": len(sessions_without_bars(warehouse, frequency, covered)),
                "sessions_changed": len(counts.sessions),
                "received": counts.received,
                "kept": counts.kept,
                "folded": counts.folded,
                "rejected": counts.rejected,
                **({"resampling": RULE} if candlecast.settings.market.resample else {}),
            },
        )

    return bars


def _record_changed_sessions(context: dg.AssetExecutionContext, candlecast: Candlecast, sessions: "set[date]") -> None:
    """Materialisations of sessions outside the run's range whose bars it changed: what follows from them is stale.

    An ingest takes every new payload, whatever sessions its run was asked for. Sessions that were never materialised
    stay so.
    """
    from assets.market.ingest.digests import contents_by_session, session_digests

    known = context.instance.get_materialized_partitions(context.asset_key) if sessions else set()
    changed = [session for session in sorted(sessions) if session.strftime(KEY_FORMAT) in known]
    if not changed:
        return
    digests = session_digests(candlecast.warehouse, candlecast.settings.market.frequency, changed[0], changed[-1])
    contents = contents_by_session(digests)
    for session in changed:
        rows, version = contents.get(session, (0, EMPTY))
        context.log_event(
            dg.AssetMaterialization(
                context.asset_key,
                partition=session.strftime(KEY_FORMAT),
                metadata={"dagster/row_count": rows},
                tags={DATA_VERSION_TAG: version},
            )
        )


def _bars_metadata(candlecast: Candlecast) -> dict[str, Any]:
    """Pictures and tables of all bars of the calendar's frequency."""
    from assets.market.ingest.lake import Lake
    from assets.market.outcomes import file_outcomes, outcomes_frame
    from assets.market.plots import BLUE, MOST_SYMBOLS, counts_picture, coverage_picture
    from assets.market.summary import coverage, flags, latest_prices, rejections

    warehouse, calendar, home = candlecast.warehouse, candlecast.calendar, candlecast.home
    frequency = calendar.frequency
    rejected, flagged = rejections(warehouse, frequency), flags(warehouse, frequency)
    covered = coverage(warehouse, calendar)
    by_rule, by_flag = rejected.set_index("rule")["rows"], flagged.set_index("flag")["bars"]
    return {
        "dagster/column_schema": BAR_COLUMNS,
        "coverage": chart(home, coverage_picture, covered.head(MOST_SYMBOLS), len(covered)),
        "rejected_rows": chart(home, counts_picture, by_rule, "Rejected rows by rule, all payloads"),
        "rejections_by_rule": table(rejected),
        "files": table(outcomes_frame(file_outcomes(warehouse, Lake(candlecast.home), frequency))),
        "flagged_bars": chart(home, counts_picture, by_flag, "Flagged bars", BLUE),
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
    def corporate_actions(candlecast: dg.ResourceParam[Candlecast]) -> dg.MaterializeResult[None]:
        """Splits and dividends with their price factors: from the source, or derived from its adjusted close."""
        from assets.market.actions import refresh_actions
        from assets.market.ingest.digests import digest_of_actions
        from assets.market.plots import actions_by_year, actions_picture

        warehouse = candlecast.warehouse
        refreshed = refresh_actions(warehouse)
        actions = warehouse.frame("FROM corporate_actions ORDER BY ex_date DESC, symbol, kind")
        metadata: dict[str, Any] = {
            "dagster/row_count": refreshed.total,
            "dagster/column_schema": ACTION_COLUMNS,
            "dagster/column_lineage": ACTION_LINEAGE,
            "added": refreshed.added,
            "withdrawn": refreshed.withdrawn,
            "newest": table(actions[["symbol", "ex_date", "kind", "value", "price_factor", "origin"]]),
        }
        if len(actions):
            metadata["by_year"] = chart(candlecast.home, actions_picture, actions_by_year(actions))
        return dg.MaterializeResult(data_version=dg.DataVersion(digest_of_actions(warehouse)), metadata=metadata)

    return corporate_actions
