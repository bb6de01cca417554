"""What a run has covered, and from which session on the next one has anything to make where only sessions have come.

Not here: whether anything else has changed (plan).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date

from assets.forecasting.origins import planned_sessions
from orchestration.staleness.contents import digest_of_bars_until
from resources.candlecast import Candlecast

# What is recorded of a run: its first and last session, and the bars up to the last one.
COVERED = ("first", "last", "history")
# The parts of an asset's digests that sessions change which have come; see plan.PARTS.
GROWTH = frozenset({"bars", "sessions"})


def covered_by(candlecast: Candlecast, sessions: tuple[date, date] | None) -> dict[str, str]:
    """What is recorded of a run over the sessions from the first to the last; without partitioned assets nothing."""
    if sessions is None:
        return {}
    first, last = sessions
    return dict(zip(COVERED, (str(first), str(last), digest_of_bars_until(candlecast.warehouse, last)), strict=True))


def first_new(
    candlecast: Candlecast, sessions: tuple[date, date], recorded: Collection[Mapping[str, str]]
) -> date | None:
    """The first session of a run over `sessions` that makes what is new. None: it is to cover all of them.

    It is the last origin that was covered, since a range without an origin cannot be run.

    Args:
        recorded: of each partitioned asset of the run, what was recorded last (`covered_by`).
    """
    covered = {tuple(one.get(part, "") for part in COVERED) for one in recorded}
    first, last, history = covered.pop() if len(covered) == 1 else ("", "", "")
    settings = candlecast.settings
    learnt = max(settings.windows.train[1], settings.windows.validation[1])
    if first != str(sessions[0]) or not str(learnt) <= last < str(sessions[1]):
        return None
    newest = date.fromisoformat(last)
    if digest_of_bars_until(candlecast.warehouse, newest) != history:
        return None
    known = candlecast.calendar.sessions(*candlecast.calendar.within(sessions[0], newest))
    return max(planned_sessions([one.date() for one in known], settings, candlecast.calendar), default=None)
