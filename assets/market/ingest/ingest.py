"""From the lake into the warehouse: every committed batch that is not there yet, one transaction a batch.

Judging happens before the transaction (contract), so the warehouse is held for a short time. A batch that another
process put in meanwhile is left alone.

Of several requests that speak of one bar, the newest word counts: a revision's only where it says something new, and
where a revision has no word any more, the newest that remains. A file that is taken away leaves its bars: folders are
tidied up. One that holds its header alone takes them away. Not here: fetching payloads (lake), which of them may land
(landing), corporate actions (actions).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date

import duckdb
import pandas as pd

from assets.market.ingest.contract import Staged, make_split_ratios, make_table, run_script, staged
from assets.market.ingest.lake import Batch, Lake, Landed, reason_of
from assets.market.ingest.landing import handed_over, judgement_of, says_of_another_source
from assets.market.ingest.rules import REASONS
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.sources.dropped import is_dropped
from resources.sources.files import removal_of
from resources.sources.protocol import Reading
from resources.sql import load_sql
from resources.warehouse import Warehouse

logger = logging.getLogger("candlecast.market")
# Cash that was derived from an adjusted close differs in its last digits from one download to the next.
_SAME = """({equal} AND i.amount IS NOT DISTINCT FROM b.amount
    AND (i.dividend IS NULL OR abs(i.dividend - coalesce(b.dividend, 0)) <= {cents}
         OR i.actions LIKE 'derived%' AND abs(i.dividend - coalesce(b.dividend, 0)) <= 1e-4 + 0.02 * i.dividend)
    AND (i.split IS NULL OR i.split = coalesce(b.split, 1)))"""
# "No action" is news where nobody knew.
_NO_NEWS = """(i.actions IS NULL OR i.actions LIKE '%unknown'
    OR b.actions IS NULL OR b.actions NOT LIKE '%unknown')"""
_EQUAL = "i.{name} IS NOT DISTINCT FROM b.{name}"
# So does all that is not as quoted: every later split divides it anew, and it is rounded then.
_NEARLY = f"({_EQUAL} OR abs(i.{{name}} - b.{{name}}) <= 1e-6 * b.{{name}})"
COMPARE = load_sql("assets.market.ingest", "compare.sql")
TOUCHED = load_sql("assets.market.ingest", "touched.sql")
APPLY = load_sql("assets.market.ingest", "apply.sql")

_INGESTED = "SELECT coalesce(max(batch), 0) FROM payloads"
# A row where the calendar has no bar is no word about the bar that another calendar had there. One whose values are bad
# is: it does not take away what was good.
_MENTIONED = """
CREATE TEMP TABLE misplaced AS
SELECT DISTINCT name AS symbol, ts, payload FROM read_parquet($rejected)
WHERE rule IN ('before_the_calendar', 'not_a_session', 'outside_hours', 'off_the_grid');
CREATE TEMP TABLE mentioned AS
SELECT symbol, ts, payload FROM incoming
UNION ALL
SELECT r.name, r.ts, r.payload FROM read_parquet($rejected) AS r
ANTI JOIN misplaced AS m ON m.symbol = r.name AND m.ts = r.ts WHERE r.ts IS NOT NULL
"""
_CHANGED = """
SELECT session FROM fate WHERE NOT same
UNION
SELECT b.session FROM bars AS b JOIN gone AS g ON g.symbol = b.symbol AND g.ts = b.ts WHERE b.frequency = $frequency
ORDER BY session
"""
_NEWEST = """
SELECT request, max(batch) FROM payloads WHERE frequency = $frequency AND list_contains($requests, request)
GROUP BY request ORDER BY request
"""
# Why rows are turned away that would be bars if another file of their batch did not say something else.
_AT_ODDS = "('conflicting_duplicate', 'symbol_in_other_case')"
# Requests that may have a word about a withdrawn bar: they folded rows, were at odds with another file or put right, or
# hold the same content.
_WITNESSES = f"""
SELECT request FROM payloads WHERE folded > 0 AND frequency = $frequency
UNION
SELECT p.request FROM rejected_bars AS r JOIN payloads AS p ON p.batch = r.batch AND p.file = r.file
WHERE r.rule IN {_AT_ODDS} AND r.frequency = $frequency
UNION
SELECT p.request FROM superseded_bars AS s JOIN gone AS g ON g.symbol = s.symbol AND g.ts = s.ts
JOIN payloads AS p ON p.batch = s.batch AND p.payload_sha256 = s.payload_sha256 WHERE s.frequency = $frequency
UNION
SELECT p.request FROM bars AS b JOIN gone AS g ON g.symbol = b.symbol AND g.ts = b.ts
JOIN payloads AS p ON p.batch = b.batch AND p.payload_sha256 = b.payload_sha256 WHERE b.frequency = $frequency
EXCEPT
SELECT request FROM contributed
"""
_SAID = """
CREATE OR REPLACE TEMP TABLE said AS
SELECT i.*, ''::VARCHAR AS request, ''::VARCHAR AS sha256, 0::BIGINT AS batch FROM incoming AS i LIMIT 0;
CREATE OR REPLACE TEMP TABLE at_odds AS SELECT symbol, ts, batch FROM said
"""
_SAY = """
INSERT INTO said BY NAME
SELECT k.*, s.request, s.sha256, s.batch
FROM read_parquet($kept) AS k JOIN spoken AS s ON s.number = k.payload SEMI JOIN {about} AS a USING (symbol, ts)
"""
_NOTHING_NEW = """
UPDATE fate SET same = true FROM (
    SELECT i.symbol, i.ts FROM fate AS i
    JOIN contested AS c ON c.symbol = i.symbol AND c.ts = i.ts
    JOIN said AS b ON b.symbol = i.symbol AND b.ts = i.ts AND b.request = c.request
    WHERE {same}
) AS old
WHERE fate.symbol = old.symbol AND fate.ts = old.ts
"""
_NOT_TOGETHER = """
INSERT INTO at_odds
SELECT DISTINCT name, ts, $batch FROM read_parquet($rejected) WHERE rule = 'conflicting_duplicate'
"""
# Files that are still at odds have no word; nor has one that was read with a calendar which is another now.
_NO_WORD = """
DELETE FROM said USING at_odds AS o WHERE said.symbol = o.symbol AND said.ts = o.ts AND said.batch = o.batch;
DELETE FROM said USING misplaced AS m WHERE said.symbol = m.symbol AND said.ts = m.ts
"""
# A word is as old as the bar that it made, or as the newest equal bar that was there when its request first came.
_REMAINING = """
CREATE TEMP TABLE remaining AS
WITH values_had AS (
    SELECT symbol, ts, open, high, low, close, volume, amount, dividend, split, batch, payload_sha256
    FROM superseded_bars SEMI JOIN gone USING (symbol, ts) WHERE frequency = $frequency
    UNION ALL
    SELECT symbol, ts, open, high, low, close, volume, amount, dividend, split, batch, payload_sha256
    FROM bars SEMI JOIN gone USING (symbol, ts) WHERE frequency = $frequency
),
had AS (
    SELECT b.*, p.request FROM values_had AS b
    LEFT JOIN payloads AS p ON p.batch = b.batch AND p.payload_sha256 = b.payload_sha256
),
since AS (SELECT request, min(batch) AS first FROM payloads GROUP BY request),
aged AS (
    SELECT i.symbol, i.ts, i.request,
           coalesce(max(b.batch) FILTER (b.request = i.request), max(b.batch) FILTER (b.batch <= s.first), 0) AS age
    FROM said AS i JOIN since AS s USING (request)
    LEFT JOIN had AS b ON b.symbol = i.symbol AND b.ts = i.ts AND {same}
    GROUP BY i.symbol, i.ts, i.request
)
SELECT i.*, g.payload AS withdrawn_by, {same} AS stays, b.batch AS old_batch, b.payload_sha256 AS old_sha256,
       w.request AS old_request
FROM said AS i
JOIN aged AS a ON a.symbol = i.symbol AND a.ts = i.ts AND a.request = i.request
JOIN gone AS g ON g.symbol = i.symbol AND g.ts = i.ts
JOIN contributed AS w ON w.number = g.payload
JOIN bars AS b ON b.symbol = i.symbol AND b.ts = i.ts AND b.frequency = $frequency
QUALIFY row_number() OVER (PARTITION BY i.symbol, i.ts ORDER BY a.age DESC, i.batch DESC, i.request) = 1
"""
_BACK = """
INSERT INTO fate BY NAME
SELECT * EXCLUDE (request, sha256, batch, withdrawn_by, stays, old_batch, old_sha256, old_request)
         REPLACE (withdrawn_by AS payload),
       true AS stored, false AS same
FROM remaining WHERE NOT stays
"""
_NOT_GONE = """
DELETE FROM gone USING remaining AS r WHERE gone.symbol = r.symbol AND gone.ts = r.ts
"""
# A file that was taken away corrects nothing any more; what no other file says stays.
_NOT_LOST = """
DELETE FROM gone USING contributed AS c WHERE gone.payload = c.number AND c.removed
"""
_PASS_ON = """
INSERT INTO passed_on BY NAME
SELECT symbol, ts, batch, sha256, request, row,
       CASE WHEN stays THEN old_batch END AS old_batch, old_sha256, old_request
FROM remaining WHERE (batch, sha256) <> (old_batch, old_sha256) OR NOT stays
"""
# A row that is a bar now, and was none before, is kept and no longer folded; one whose bar is another's now, folded.
_ACCOUNTS = """
WITH ends AS (
    SELECT symbol, ts, batch, sha256, request, 1 AS kept FROM passed_on
    UNION ALL
    SELECT symbol, ts, old_batch, old_sha256, old_request, -1 FROM passed_on WHERE old_batch IS NOT NULL
),
counted AS (
    SELECT e.batch, e.request, sum(e.kept) AS kept, count(r.batch) AS rejected
    FROM ends AS e
    LEFT JOIN pardoned AS r ON r.batch = e.batch AND r.request = e.request AND r.symbol = e.symbol AND r.ts = e.ts
    ANTI JOIN (SELECT * FROM superseded_bars WHERE frequency = $frequency) AS s
        ON s.symbol = e.symbol AND s.ts = e.ts AND s.batch = e.batch AND s.payload_sha256 = e.sha256
    GROUP BY e.batch, e.request
)
UPDATE payloads SET kept = payloads.kept + c.kept, folded = payloads.folded - (c.kept - c.rejected),
                    rejected = payloads.rejected - c.rejected
FROM counted AS c WHERE payloads.batch = c.batch AND payloads.request = c.request
"""
_PARDONED = """
CREATE TEMP TABLE pardoned AS
SELECT n.symbol, n.ts, n.batch, n.request, r.file, r.row_number
FROM passed_on AS n
JOIN payloads AS p ON p.batch = n.batch AND p.request = n.request
JOIN rejected_bars AS r ON r.batch = n.batch AND r.file = p.file AND r.row_number = n.row
"""
_NOT_REJECTED = """
DELETE FROM rejected_bars USING pardoned AS p
WHERE rejected_bars.batch = p.batch AND rejected_bars.file = p.file AND rejected_bars.row_number = p.row_number
"""
_SPEAKS_NOW = """
UPDATE bars SET payload_sha256 = n.sha256, batch = n.batch FROM passed_on AS n
WHERE bars.symbol = n.symbol AND bars.ts = n.ts AND bars.frequency = $frequency
"""
# Rows that another file of their batch was at odds with: of payloads that still count, where that file is revised now.
_TURNED_AWAY = f"""
CREATE TEMP TABLE turned_away AS
WITH standing AS (
    SELECT request, max(batch) AS batch, arg_max(file, batch) AS file FROM payloads
    WHERE frequency = $frequency GROUP BY request
),
reopened AS (
    SELECT DISTINCT p.batch FROM payloads AS p JOIN contributed AS c ON c.request = p.request AND NOT c.by_range
)
SELECT s.request, s.batch, upper(r.symbol) AS symbol, r.file, r.row_number
FROM rejected_bars AS r
SEMI JOIN reopened AS o ON o.batch = r.batch
JOIN standing AS s ON s.batch = r.batch AND s.file = r.file
ANTI JOIN contributed AS c ON c.request = s.request
WHERE r.rule IN {_AT_ODDS} AND r.frequency = $frequency
"""
# Those that tell of the same symbols are heard too: they may be at odds with them as well.
_HEARD_AGAIN = """
SELECT request FROM turned_away
UNION
SELECT p.request FROM payloads AS p
JOIN bars AS b ON b.batch = p.batch AND b.payload_sha256 = p.payload_sha256 AND b.frequency = p.frequency
SEMI JOIN turned_away AS t ON t.batch = p.batch AND t.symbol = b.symbol
ANTI JOIN contributed AS c ON c.request = p.request
WHERE p.frequency = $frequency
"""
# What is derived from a row before it is derived anew.
_FREE = """
INSERT INTO said BY NAME
SELECT i.*, s.request, s.sha256, s.batch
FROM read_parquet($kept) AS i
JOIN spoken AS s ON s.number = i.payload
LEFT JOIN bars AS b ON b.symbol = i.symbol AND b.ts = i.ts AND b.frequency = $frequency
LEFT JOIN turned_away AS t ON t.batch = s.batch AND t.request = s.request AND t.row_number = i.row
ANTI JOIN incoming AS n ON n.symbol = i.symbol AND n.ts = i.ts
ANTI JOIN gone AS g ON g.symbol = i.symbol AND g.ts = i.ts
ANTI JOIN (SELECT name, ts FROM read_parquet($rejected_now) WHERE rule IN {at_odds}) AS o
    ON o.name = i.symbol AND o.ts = i.ts
ANTI JOIN misplaced AS m ON m.symbol = i.symbol AND m.ts = i.ts
ANTI JOIN (SELECT DISTINCT symbol, source FROM bars WHERE frequency = $frequency) AS f
    ON f.symbol = i.symbol AND f.source <> $source
WHERE b.symbol IS NULL AND t.row_number IS NOT NULL
   OR b.batch = s.batch AND b.payload_sha256 = s.sha256 AND NOT ({same})
QUALIFY bool_or(b.symbol IS NULL) OVER (PARTITION BY i.payload, i.symbol)
"""
_FREED = """
CREATE TEMP TABLE freed AS
SELECT s.*, c.number AS freed_by, b.symbol IS NOT NULL AS stored
FROM said AS s
JOIN (SELECT p.batch, min(c.number) AS number FROM payloads AS p
      JOIN contributed AS c ON c.request = p.request AND NOT c.by_range GROUP BY p.batch) AS c ON c.batch = s.batch
LEFT JOIN bars AS b ON b.symbol = s.symbol AND b.ts = s.ts AND b.frequency = $frequency
QUALIFY row_number() OVER (PARTITION BY s.symbol, s.ts ORDER BY s.batch DESC, s.request) = 1;
INSERT INTO fate BY NAME
SELECT * EXCLUDE (request, sha256, batch, freed_by) REPLACE (freed_by AS payload), false AS same FROM freed;
INSERT INTO passed_on BY NAME SELECT symbol, ts, batch, sha256, request, row FROM freed
"""
_SPAN = """
SELECT min(t.sees_from)::DATE, greatest(max(t.last), max(b.ts))::DATE
FROM touched AS t LEFT JOIN bars AS b ON b.symbol = t.symbol AND b.ts >= t.sees_from AND b.frequency = $frequency
"""


@dataclass(frozen=True)
class Ingested:
    """What batches changed in the warehouse.

    Attributes:
        batches: how many were put in.
        received, kept, folded, rejected: rows; received = kept + folded + rejected.
        sessions: those whose bars changed, oldest first.
    """

    batches: int = 0
    received: int = 0
    kept: int = 0
    folded: int = 0
    rejected: int = 0
    sessions: tuple[date, ...] = ()


def ingest(lake: Lake, warehouse: Warehouse, progress: Progress = silent) -> Ingested:
    """Put every batch of the lake that is missing into the warehouse, in order.

    Raises:
        CandlecastError: a payload cannot be read as bars, or a symbol already comes from another source; unless the
            same request has a newer payload, or its file is gone: then that payload is left out.
    """
    total = Ingested()
    for batch in lake.batches(after=last_ingested(warehouse)):
        try:
            done = ingest_batch(batch, lake, warehouse, progress)
        except Exception as error:
            done = ingest_batch(_without_outdated(batch, lake, warehouse, error), lake, warehouse, progress)
        total = _sum(total, done)
    return total


def _without_outdated(batch: Batch, lake: Lake, warehouse: Warehouse, error: Exception) -> Batch:
    """A batch that cannot be put in, without those of its bad payloads that a newer one stands for."""
    reason_of(error, "")
    bad = judgement_of(batch, lake, warehouse).refused
    if not bad:
        raise error
    newer = {payload.request.key for later in lake.batches(after=batch.number) for payload in later.payloads}
    # A dropped file has no newer payload: it is its own request.
    standing = [
        payload
        for payload in batch.payloads
        if payload.request.key in bad and payload.request.key not in newer and not is_dropped(payload.request)
    ]
    if standing:
        raise CandlecastError("\n".join(bad[payload.request.key] for payload in standing)) from error
    for payload in batch.payloads:
        if payload.request.key in bad:
            logger.warning("left out of batch %s: %s", batch.number, bad[payload.request.key])
    return replace(batch, payloads=tuple(p for p in batch.payloads if p.request.key not in bad))


def last_ingested(warehouse: Warehouse) -> int:
    """The number of the newest batch in the warehouse; 0: none."""
    if not warehouse.exists:
        return 0
    with warehouse.read() as connection:
        return int(connection.execute(_INGESTED).fetchall()[0][0])


def ingest_batch(batch: Batch, lake: Lake, warehouse: Warehouse, progress: Progress = silent) -> Ingested:
    """Put one batch in. Nothing changes if it is there already."""
    if not batch.payloads:
        return Ingested()
    calendar = TradingCalendar(batch.reading.calendar, batch.reading.frequency)
    with handed_over(batch, lake, calendar, progress) as judged, warehouse.write() as connection:
        if connection.execute(_INGESTED).fetchall()[0][0] >= batch.number:
            return Ingested()
        return merge(connection, judged, calendar, lake)


def sessions_changed(connection: duckdb.DuckDBPyConnection, judged: Staged, lake: Lake) -> list[date]:
    """The sessions whose bars a judged batch would change, but for flags. Writes nothing."""
    compare(connection, judged, lake)
    return [
        session for (session,) in connection.execute(_CHANGED, {"frequency": judged.batch.reading.frequency}).fetchall()
    ]


def compare(connection: duckdb.DuckDBPyConnection, judged: Staged, lake: Lake) -> None:
    """Make the temporary tables that say what a judged batch changes."""
    frequency = judged.batch.reading.frequency
    connection.execute("CREATE TEMP TABLE incoming AS FROM read_parquet($kept)", {"kept": str(judged.kept)})
    make_table(connection, "contributed", _contributed(judged), "*")
    run_script(connection, _MENTIONED, {"rejected": str(judged.rejected)})
    if told := says_of_another_source(connection, "incoming", judged.batch):
        raise CandlecastError(next(iter(told.values())))
    same = f"{_same(judged.batch.reading)} AND {_NO_NEWS}"
    run_script(connection, COMPARE.replace("{same}", same), {"frequency": frequency, "batch": judged.batch.number})
    if connection.execute("SELECT count(*) FROM contested").fetchall()[0][0]:
        _ignore_what_was_said_before(connection, judged.batch, lake)
    if connection.execute("SELECT count(*) FROM gone").fetchall()[0][0]:
        _let_the_newest_word_count(connection, judged.batch, lake)
    _free_what_nobody_disputes(connection, judged, same, lake)
    run_script(connection, TOUCHED, {"frequency": frequency})


def merge(connection: duckdb.DuckDBPyConnection, judged: Staged, calendar: TradingCalendar, lake: Lake) -> Ingested:
    """Apply a judged batch inside the connection's transaction."""
    batch = judged.batch
    values = {
        "frequency": batch.reading.frequency,
        "batch": batch.number,
        "rejected": str(judged.rejected),
    }
    compare(connection, judged, lake)
    make_table(connection, "reasons", pd.DataFrame(REASONS.items(), columns=["rule", "reason"]), "*")
    make_split_ratios(connection)
    span = connection.execute(_SPAN, {"frequency": batch.reading.frequency}).fetchall()[0]
    make_table(connection, "grid", calendar.grid(*span), "ts::TIMESTAMP AS ts, half_day, position")
    run_script(connection, APPLY, values)
    if connection.execute("SELECT count(*) FROM passed_on").fetchall()[0][0]:
        run_script(connection, ";".join((_PARDONED, _ACCOUNTS, _NOT_REJECTED, _SPEAKS_NOW)), values)
    sessions = connection.execute("SELECT session FROM sessions_touched ORDER BY session").fetchall()
    counts = connection.execute(
        "SELECT sum(received), sum(kept), sum(folded), sum(rejected) FROM payloads WHERE batch = ?", [batch.number]
    ).fetchall()[0]
    received, kept, folded, rejected = (int(count) for count in counts)
    return Ingested(1, received, kept, folded, rejected, tuple(session for (session,) in sessions))


def _same(reading: Reading) -> str:
    """The condition that the rows i and b have the same values."""
    equal, cents = (_EQUAL, "0") if reading.basis == "raw" else (_NEARLY, "1e-5 * (1 + i.dividend)")
    names = ("open", "high", "low", "close", "volume")
    return _SAME.format(equal=" AND ".join(equal.format(name=name) for name in names), cents=cents)


def _ignore_what_was_said_before(connection: duckdb.DuckDBPyConnection, batch: Batch, lake: Lake) -> None:
    """A revision repeats most of what its request said before: that is no word against who corrected it since."""
    requests = [key for (key,) in connection.execute("SELECT DISTINCT request FROM contested").fetchall()]
    _listen(connection, _newest(connection, requests, batch, lake), "contested", lake)
    connection.execute(_NOTHING_NEW.replace("{same}", _same(batch.reading)))


def _let_the_newest_word_count(connection: duckdb.DuckDBPyConnection, batch: Batch, lake: Lake) -> None:
    """Where the request of a bar has no word about it any more, take the newest of the other current payloads."""
    frequency = {"frequency": batch.reading.frequency}
    witnesses = [key for (key,) in connection.execute(_WITNESSES, frequency).fetchall()]
    _listen(connection, _newest(connection, witnesses, batch, lake), "gone", lake)
    settled = ";".join((_NO_WORD, _REMAINING, _BACK, _PASS_ON, _NOT_GONE, _NOT_LOST))
    run_script(connection, settled.replace("{same}", _same(batch.reading)), dict(frequency))


def _free_what_nobody_disputes(connection: duckdb.DuckDBPyConnection, judged: Staged, same: str, lake: Lake) -> None:
    """Judge rows again that were turned away because of another file of their batch, where that file is revised now.

    Bars that are there, and what the batch itself says, count more.
    """
    batch = judged.batch
    frequency = {"frequency": batch.reading.frequency}
    connection.execute(_TURNED_AWAY, frequency)
    if not connection.execute("SELECT count(*) FROM turned_away").fetchall()[0][0]:
        return
    heard = [key for (key,) in connection.execute(_HEARD_AGAIN, frequency).fetchall()]
    run_script(connection, _SAID, {})
    free = _FREE.format(at_odds=_AT_ODDS, same=same)
    now = {**frequency, "rejected_now": str(judged.rejected), "source": batch.payloads[0].source}
    for earlier, payloads in _by_batch(_newest(connection, heard, batch, lake)):
        with _judged_again(connection, earlier, payloads, lake) as again:
            connection.execute(free, {**now, "kept": str(again.kept)})
    run_script(connection, _FREED, dict(frequency))


def _newest(
    connection: duckdb.DuckDBPyConnection, requests: Sequence[str], batch: Batch, lake: Lake
) -> list[tuple[Batch, Landed]]:
    """The newest payloads of some requests that are in the warehouse."""
    parameters = {"frequency": batch.reading.frequency, "requests": list(requests)}
    newest = dict(connection.execute(_NEWEST, parameters).fetchall())
    return [
        (earlier, payload)
        for earlier in (lake.batches() if newest else [])
        for payload in earlier.payloads
        if newest.get(payload.request.key) == earlier.number
    ]


def _by_batch(payloads: Sequence[tuple[Batch, Landed]]) -> list[tuple[Batch, list[Landed]]]:
    of: dict[int, list[Landed]] = {}
    for batch, payload in payloads:
        of.setdefault(batch.number, []).append(payload)
    batches = {batch.number: batch for batch, _ in payloads}
    return [(batches[number], own) for number, own in sorted(of.items())]


def _listen(
    connection: duckdb.DuckDBPyConnection, payloads: Sequence[tuple[Batch, Landed]], about: str, lake: Lake
) -> None:
    """Make the table `said`: what payloads say about the keys of the table `about`. Rare, so they are judged again.

    Where payloads of one batch say different things, each is heard, and `at_odds` has the keys.
    """
    run_script(connection, _SAID, {})
    for batch, own in _by_batch(payloads):
        if not _say(connection, batch, own, about, lake):
            for payload in own:
                _say(connection, batch, [payload], about, lake)


def _say(
    connection: duckdb.DuckDBPyConnection, batch: Batch, payloads: Sequence[Landed], about: str, lake: Lake
) -> bool:
    """Add what some payloads of a batch say; False: they speak of the same bars and must be heard one by one."""
    with _judged_again(connection, batch, payloads, lake) as judged:
        if len(payloads) > 1 and _overlap(connection, judged):
            return False
        connection.execute(_SAY.format(about=about), {"kept": str(judged.kept)})
        return True


@contextmanager
def _judged_again(
    connection: duckdb.DuckDBPyConnection, batch: Batch, payloads: Sequence[Landed], lake: Lake
) -> Iterator[Staged]:
    """Payloads of an earlier batch, judged together and without its others; `spoken` tells whose rows are whose."""
    calendar = TradingCalendar(batch.reading.calendar, batch.reading.frequency)
    again = replace(batch, payloads=tuple(payloads))
    payload_files = [lake.file(payload) for payload in payloads]
    with staged(again, payload_files, calendar, lake.home.scratch / "contract") as judged:
        spoken = [(number, p.request.key, p.sha256, batch.number) for number, p in enumerate(payloads)]
        make_table(connection, "spoken", pd.DataFrame(spoken, columns=["number", "request", "sha256", "batch"]), "*")
        yield judged


def _overlap(connection: duckdb.DuckDBPyConnection, judged: Staged) -> bool:
    before = connection.execute("SELECT count(*) FROM at_odds").fetchall()[0][0]
    connection.execute(_NOT_TOGETHER, {"rejected": str(judged.rejected), "batch": judged.batch.number})
    after = connection.execute("SELECT count(*) FROM at_odds").fetchall()[0][0]
    return any(count.folded for count in judged.counts) or bool(after > before)


def _contributed(judged: Staged) -> pd.DataFrame:
    removed = removal_of(judged.batch.reading)
    return pd.DataFrame(
        [
            {
                "number": number,
                "sha256": count.payload.sha256,
                "source": count.payload.source,
                "request": count.payload.request.key,
                "file": count.payload.request.file,
                "by_range": count.payload.request.first is not None,
                "removed": count.payload.sha256 == removed,
                "fetched_at": count.payload.fetched_at,
                "received": count.received,
                "folded": count.folded,
                "rejected": count.rejected,
            }
            for number, count in enumerate(judged.counts)
        ]
    )


def _sum(one: Ingested, other: Ingested) -> Ingested:
    return Ingested(
        one.batches + other.batches,
        one.received + other.received,
        one.kept + other.kept,
        one.folded + other.folded,
        one.rejected + other.rejected,
        tuple(sorted({*one.sessions, *other.sessions})),
    )
