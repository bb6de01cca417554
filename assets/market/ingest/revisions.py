"""What a validated batch changes in the warehouse: new versions of bars, and which version of each bar is current.

Every request (a file, or a range of a provider) has its own versions of a bar. A new one is recorded only where the
values change; a file that no longer contains a bar withdraws its version. The current bar is the version with the
newest `since` among the requests that still contain it. A bar with one request and one version is in `bars` alone; all
others have their versions in `bar_versions`. The work is in compare.sql and current.sql; nothing here writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date

import duckdb
import pandas as pd

from assets.market.ingest.conflicts import reread_conflicts
from assets.market.ingest.contract import StagedBatch
from assets.market.ingest.lake import Lake
from assets.market.ingest.landing import symbols_of_other_sources
from assets.market.ingest.payload_columns import literal
from assets.market.ingest.tables import make_table, run_script
from resources.errors import CandlecastError
from resources.sources.files import removal_of
from resources.sources.protocol import Reading
from resources.sql import load_sql

PACKAGE = "assets.market.ingest"
_COLUMNS = ("open", "high", "low", "close", "volume")
_EQUAL = "{new}.{name} IS NOT DISTINCT FROM {old}.{name}"
# Prices that are not as quoted are divided anew by every later split, and rounded then.
_NEARLY_EQUAL = f"({_EQUAL} OR abs({{new}}.{{name}} - {{old}}.{{name}}) <= 1e-6 * {{old}}.{{name}})"
# A dividend derived from an adjusted close differs in its last digits from one download to the next.
_SAME_ACTIONS = """({new}.dividend IS NULL OR abs({new}.dividend - coalesce({old}.dividend, 0)) <= {cents}
        OR {new}.actions LIKE 'derived%'
           AND abs({new}.dividend - coalesce({old}.dividend, 0)) <= 1e-4 + 0.02 * {new}.dividend)
    AND ({new}.split IS NULL OR {new}.split = coalesce({old}.split, 1))"""
# "No action" is news where the actions were unknown.
_NEWS = """NOT coalesce({new}.actions IS NULL OR {new}.actions LIKE '%unknown'
        OR {old}.actions IS NULL OR {old}.actions NOT LIKE '%unknown', false)"""
_SESSIONS_CHANGED = "SELECT session FROM written UNION SELECT session FROM gone ORDER BY session"


def sessions_changed(connection: duckdb.DuckDBPyConnection, staged: StagedBatch, lake: Lake) -> list[date]:
    """The sessions whose bars a batch would change, flags aside. Writes nothing."""
    compare_batch(connection, staged, lake)
    return [session for (session,) in connection.execute(_SESSIONS_CHANGED).fetchall()]


def compare_batch(connection: duckdb.DuckDBPyConnection, staged: StagedBatch, lake: Lake) -> None:
    """Create the temporary tables that hold what a batch changes: `written`, `gone`, `added`, `withdrawals`, ….

    Raises:
        CandlecastError: a symbol of the batch already comes from another source.
    """
    batch = staged.batch
    values: dict[str, object] = {"frequency": batch.reading.frequency, "batch": batch.number}
    files = {"accepted": literal(str(staged.accepted)), "rejected": literal(str(staged.rejected))}
    run_script(connection, _filled("staged.sql", files), {})
    make_table(connection, "contributed", _contributed(staged), "*")
    if reasons := symbols_of_other_sources(connection, "incoming", batch):
        raise CandlecastError(next(iter(reasons.values())))
    reread_conflicts(connection, batch, lake)
    conditions = {
        "same_as_bar": f"{same_values(batch.reading, 'i', 'b')} AND NOT {_NEWS.format(new='i', old='b')} "
        "AND i.incomplete = list_contains(b.flags, 'incomplete')",
        "same_as_own": f"{same_values(batch.reading, 'i', 'o')} AND i.incomplete = coalesce(o.incomplete, false)",
        "news_to_own": _NEWS.format(new="i", old="o"),
    }
    for name in ("compare.sql", "current.sql"):
        run_script(connection, _filled(name, conditions), values)


def _filled(name: str, texts: Mapping[str, str]) -> str:
    """A script with its `{placeholders}` replaced."""
    script = load_sql(PACKAGE, name)
    for placeholder, text in texts.items():
        script = script.replace("{" + placeholder + "}", text)
    return script


def same_values(reading: Reading, new: str, old: str) -> str:
    """The SQL condition that two rows hold the same bar.

    Args:
        new, old: aliases of the rows. A new row that does not state an action does not contradict it.
    """
    equal, cents = (_EQUAL, "0") if reading.basis == "raw" else (_NEARLY_EQUAL, f"1e-5 * (1 + {new}.dividend)")
    columns = [equal.format(new=new, old=old, name=name) for name in _COLUMNS]
    columns.append(_EQUAL.format(new=new, old=old, name="amount"))
    return f"({' AND '.join(columns)} AND {_SAME_ACTIONS.format(new=new, old=old, cents=cents)})"


def _contributed(staged: StagedBatch) -> pd.DataFrame:
    """One row per payload of the batch, in its order."""
    removal = removal_of(staged.batch.reading)
    contents = Counter(counts.payload.sha256 for counts in staged.counts)
    return pd.DataFrame(
        [
            {
                "number": number,
                "sha256": counts.payload.sha256,
                "source": counts.payload.source,
                "request": counts.payload.request.key,
                "file": counts.payload.request.file,
                "by_range": counts.payload.request.first is not None,
                "removed": counts.payload.sha256 == removal,
                "shared": contents[counts.payload.sha256] > 1,
                "reread": False,
                "batch": staged.batch.number,
                "fetched_at": counts.payload.fetched_at,
                "received": counts.received,
                "rejected": counts.rejected,
                "aggregated": counts.aggregated,
            }
            for number, counts in enumerate(staged.counts)
        ]
    )
