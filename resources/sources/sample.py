"""Daily bars of AAPL, IBM, MSFT, GOOG and FB, 2000-03 … 2013-03, from the package bokeh-sampledata.

Prices are as quoted; splits and dividends are derived from the adjusted close beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

from resources.sources.protocol import Reading, Request, Wanted

FILE = "stocks.csv.gz"


@dataclass(frozen=True)
class SampleSource:
    """The sample bars: one request, for the file in the package."""

    reading: Reading
    name: str = "sample"
    by_range: bool = False

    def plan(self, wanted: Wanted) -> list[Request]:
        return [Request(key=f"sample:{FILE}", file=f"bokeh_sampledata/{FILE}")]

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        return []

    def fingerprint(self, request: Request) -> str:
        return hashlib.sha256(_packaged().read_bytes()).hexdigest()

    def reaches(self, payload: Path) -> date | None:
        return None

    def fetch(self, request: Request, into: Path) -> str:
        from resources.sources.text import text_to_parquet

        with as_file(_packaged()) as file:
            text_to_parquet(file, into, request.file)
        return self.fingerprint(request)


def _packaged() -> Traversable:
    return files("bokeh_sampledata").joinpath("_data", FILE)
