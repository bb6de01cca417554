"""Catch-up: the sessions that the daily run should cover besides the newest one.

Sessions that an outage or a failed run left out, that arrived in part, whose forecasts lack symbols, and whose bars a
correction changes. Not here: when it runs (schedules), and what a single session lacks (completeness).

Modules that compute are imported inside the functions: loading the definitions imports none of them.
"""

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date
from threading import Thread

import dagster as dg

from assets.sessions import KEY_FORMAT
from orchestration.completeness import complete_sessions, watched_assets
from orchestration.stale_scores import reach, stale_scores
from resources.candlecast import Candlecast

logger = logging.getLogger("candlecast.catch_up")
# Sessions further apart than this, a quarter of a year, are covered by runs of their own.
BRIDGED = 63
PENDING_SECONDS = 20.0
MARKET = ("raw_bars", "bars", "corporate_actions")
EVALUATION = ("forecast_scores", "scoreboard", "forecast_risk", "risk_backtest")

Span = tuple[int, int]


@dataclass(frozen=True)
class CatchUp:
    """A run over the closed sessions from `first` to `last`; `assets`: of these assets alone."""

    first: str
    last: str
    assets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reasons:
    """Why sessions should be run, as partition keys.

    Attributes:
        incomplete: not materialised for all symbols, or with forecasts that are missing.
        changed: the source has bars for them that an ingest would add or change.
        stale: with scores that are older than the bars that they use.
        scored: sessions that have scores.
    """

    incomplete: Sequence[str]
    changed: Sequence[str] = ()
    stale: Sequence[str] = ()
    scored: Sequence[str] = ()


def incomplete_by_records(instance: dg.DagsterInstance, candlecast: Candlecast, closed: Sequence[str]) -> list[str]:
    """The closed sessions that were not materialised for all symbols, after the oldest one of the test range that was.

    In a new home the newest session alone.
    """
    watched = watched_assets(candlecast.settings)
    complete = set.intersection(*(complete_sessions(instance, name, closed) for name in watched))
    if not complete:
        return list(closed[-1:])
    start = max(min(complete), _first_of_test(candlecast))
    return [key for key in closed if key not in complete and key > start]


def reasons_to_run(instance: dg.DagsterInstance, candlecast: Candlecast, closed: Sequence[str]) -> Reasons:
    """Why closed sessions should be run.

    Raises:
        CandlecastError: the warehouse or the source cannot be read.
    """
    from assets.forecasts.missing import missing_forecasts

    incomplete = incomplete_by_records(instance, candlecast, closed)
    made = instance.get_materialized_partitions(dg.AssetKey("forecast_scores"))
    scored = [key for key in closed if key in made]
    if not candlecast.warehouse.exists or not scored:
        return Reasons(incomplete)
    start = max(scored[0], _first_of_test(candlecast))
    lacking = missing_forecasts(candlecast, [date.fromisoformat(key) for key in closed if key >= start])["session"]
    known = {*incomplete, *(day.strftime(KEY_FORMAT) for day in lacking)}
    stale = stale_scores(instance, candlecast.settings, closed, scored)
    # Of ranges, the run of the newest session fetches all that is missing, and records the sessions that it changes.
    # The range of a symbol that is no longer traded stays missing for ever. Last, because it may go on in its thread,
    # which occupies the warehouse.
    pending = [] if candlecast.source.by_range else _pending(candlecast)
    changed = {day.strftime(KEY_FORMAT) for day in pending}
    return Reasons([key for key in closed if key in known], [key for key in closed if key in changed], stale, scored)


def _pending(candlecast: Candlecast) -> list[date]:
    """The sessions whose bars the source would add or change; none if that takes longer than a tick may.

    The run of the newest session ingests them all the same, and records the sessions that it changes: the next tick
    finds the scores and forecasts that follow from them.
    """
    from assets.market.ingest.pending import pending_sessions

    parts = (candlecast.settings, candlecast.home, candlecast.warehouse, candlecast.calendar, candlecast.source)
    found: Future[list[date]] = Future()

    def look() -> None:
        try:
            found.set_result(pending_sessions(*parts))
        except Exception as error:
            found.set_exception(error)

    Thread(target=look, daemon=True).start()
    try:
        return found.result(timeout=PENDING_SECONDS)
    except TimeoutError:
        logger.warning("the source's changes are not known after %g s: left to the next tick", PENDING_SECONDS)
        return []


def plan_runs(candlecast: Candlecast, closed: Sequence[str], reasons: Reasons) -> list[CatchUp]:
    """The runs that make the sessions complete, oldest first."""
    position = {key: place for place, key in enumerate(closed)}
    scored = [position[key] for key in reasons.scored]
    spans = [(position[key], position[key]) for key in reasons.incomplete]
    for place in (position[key] for key in reasons.changed):
        # Scores of later targets use a changed bar, too: they are made anew in the same run.
        later = bisect_right(scored, place + reach(candlecast.settings))
        spans.append((place, max(place, scored[later - 1]) if later else place))
    merged = merge_spans(spans)
    rest = [position[key] for key in reasons.stale if not _within(position[key], merged)]
    runs = [run for span in merged for run in _runs(candlecast, closed, span)]
    runs += [
        CatchUp(closed[first], closed[last], EVALUATION) for first, last in merge_spans((one, one) for one in rest)
    ]
    return sorted(runs, key=lambda run: run.first)


def _runs(candlecast: Candlecast, closed: Sequence[str], span: Span) -> Iterator[CatchUp]:
    """The runs over a span: before the test range, where no origin is planned, of the market's assets alone."""
    first, last = span
    test = bisect_left(closed, _first_of_test(candlecast))
    if first < test:
        yield CatchUp(closed[first], closed[min(last, test - 1)], MARKET)
    if last < test:
        return
    first = max(first, test)
    # A range inside windows.test may lie between two planned origins, and a run without an origin fails.
    while first > test and first < last and not _has_origin(candlecast, closed[first : last + 1]):
        first -= 1
    yield CatchUp(closed[first], closed[last])


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Spans that overlap, or that are at most `BRIDGED` sessions apart, as one."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first - merged[-1][1] <= BRIDGED:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _within(place: int, spans: Sequence[Span]) -> bool:
    return any(first <= place <= last for first, last in spans)


def _first_of_test(candlecast: Candlecast) -> str:
    return candlecast.settings.windows.test[0].strftime(KEY_FORMAT)


def _has_origin(candlecast: Candlecast, keys: Sequence[str]) -> bool:
    from assets.forecasting.origins import planned_sessions

    settings = candlecast.settings
    days = [date.fromisoformat(key) for key in keys]
    return bool(planned_sessions(days, settings, candlecast.calendar))
