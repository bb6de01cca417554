"""Exchange calendars as exchange_calendars computed them, kept in the home folder: one JSON file per calendar.

exchange_calendars imports pandas and takes a quarter of a second to compute a calendar. What is kept is under the
versions and the time zone's rules that decide it. Imports nothing that computes. Not here: what is kept, as arrays
(resources.exchange_schedule), or as dates (resources.session_dates).
"""

from __future__ import annotations

import json
import zoneinfo
from contextlib import suppress
from datetime import date, timedelta
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from resources.integrity import digest_of_file, is_intact, publish_kept_json
from resources.layout import Home

# Changes where the same exchange calendar is kept otherwise.
VERSION = 2
# The distributions that decide which days are sessions, and their hours.
COMPUTED_BY = ("exchange_calendars", "korean_lunar_calendar", "pandas", "pyluach")
# How far ahead sessions are known: longer than a server goes without a restart.
AHEAD = timedelta(days=180)
# How long a calendar is used: the days to the next holiday are known as with a new one, which ends in a year. Frankfurt
# and Paris have none for eight months.
LONGEST_KEPT = timedelta(days=30)


def kept_calendar(home: Home, name: str, until: date) -> dict[str, Any] | None:
    """The kept calendar; none: there is none, or it is old, of other versions or rules, ends too early, or is damaged.

    Args:
        until: a day up to which sessions are wanted. One that was computed today is as long as it can be.
    """
    file = _file(home, name)
    try:
        state = file.stat()
        content = _read(file, state.st_mtime_ns, state.st_size, name) if is_intact(file) else None
    except OSError:
        return None
    if content is None:
        return None
    age = date.today() - date.fromisoformat(content["computed_on"])
    lasts = timedelta() <= age <= LONGEST_KEPT and content["sessions"][-1] >= str(until)
    return content if lasts or not age else None


def keep_calendar(home: Home, name: str, content: dict[str, Any]) -> None:
    """Keep a calendar that was computed today.

    Args:
        content: JSON values with the keys `sessions` (ISO dates, oldest first), `timezone`, and any others.
    """
    known = {**_decided_by(name, content["timezone"]), "computed_on": str(date.today()), **content}
    # A home that cannot be written, as of a read-only web server: computed again next time.
    with suppress(OSError):
        publish_kept_json(_file(home, name), known)


def _file(home: Home, name: str) -> Path:
    return home.calendars / f"{name.replace('/', '-')}.json"


@lru_cache(maxsize=8)
def _read(file: Path, modified: int, size: int, name: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
        known = content["sessions"] and _decided_by(name, content["timezone"])
        return content if known and all(content[key] == value for key, value in known.items()) else None
    except (ValueError, KeyError, TypeError):  # of an earlier release
        return None


def _decided_by(name: str, timezone: str) -> dict[str, Any]:
    """Everything that a calendar depends on, but the day on which it is computed."""
    versions = {one: version(one) for one in COMPUTED_BY}
    return {"version": VERSION, "calendar": name, **versions, "timezone_rules": _rules_of(timezone)}


def _rules_of(timezone: str) -> str | None:
    """The digest of the rules that zoneinfo reads, the system's or those of the package tzdata; none: UTC has none."""
    for folder in zoneinfo.TZPATH:
        if (file := Path(folder, timezone)).is_file():
            return digest_of_file(file)
    return version("tzdata") if timezone != "UTC" else None
