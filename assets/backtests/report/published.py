"""Published reports as they lie in the home: the newest one, and its files. Not here: how one is made (publish)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from resources.errors import CandlecastError
from resources.integrity import is_intact
from resources.layout import Home
from resources.pointers import read_pointer

HTML_FILE, JSON_FILE, LATEST_FILE = "report.html", "report.json", "latest.json"


@dataclass(frozen=True)
class PublishedReport:
    """A published report. `created`: this call wrote it; False: it existed."""

    digest: str
    folder: Path
    created: bool

    @property
    def html(self) -> Path:
        return self.folder / HTML_FILE

    @property
    def summary(self) -> dict[str, Any]:
        """The content of report.json: verdict, facts, measures."""
        return cast(dict[str, Any], json.loads((self.folder / JSON_FILE).read_text(encoding="utf-8")))


def latest_report(home: Home) -> PublishedReport | None:
    """The report published last; None: none has been published yet.

    Raises:
        CandlecastError: the pointer, or the report that it names, cannot be read.
    """
    pointer, remedy = home.reports / LATEST_FILE, "`candlecast run` writes it again"
    digest = read_pointer(pointer, remedy)
    if digest is None:
        return None
    report = PublishedReport(digest, home.reports / digest, created=False)
    if report.folder.is_dir() and not is_intact(report.folder):
        raise CandlecastError(f"{report.folder} is damaged, its files do not match their digest: {remedy}")
    try:
        _ = report.summary["verdict"]
    except (OSError, ValueError, KeyError) as error:
        raise CandlecastError(f"{pointer} does not name a readable report ({error}): {remedy}") from None
    return report
