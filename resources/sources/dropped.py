"""Files of the drop folder. Each is a delivery; a later one may correct single rows of an earlier one.

Unlike a file of the `files` source, a dropped file never withdraws rows of another file, even of the same name: a new
`bars.csv` every evening is a common practice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from resources.sources.file_symbols import symbol_of
from resources.sources.files import ending_of, file_digest, file_to_parquet
from resources.sources.protocol import Reading, Request, Wanted

KEY = "drop:"


def is_dropped(request: Request) -> bool:
    """Whether a request is for a file of the drop folder."""
    return request.key.startswith(KEY)


@dataclass(frozen=True)
class DroppedFiles:
    """Files of the drop folder, as a source. Their payloads belong to the source `files`.

    Args:
        delivery: how many times the same file was dropped; each time is a separate delivery.
    """

    files: tuple[Path, ...]
    reading: Reading
    delivery: int = 1
    name: str = "files"
    by_range: bool = False

    def plan(self, wanted: Wanted) -> list[Request]:
        return list(self._requests)

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        return []

    def fingerprint(self, request: Request) -> str:
        return file_digest(self._requests[request], self.reading)

    def reaches(self, payload: Path) -> date | None:
        return None

    def fetch(self, request: Request, into: Path) -> str:
        file = self._requests[request]
        file_to_parquet(file, into, request.file, self.reading.header)
        return file_digest(file, self.reading)

    @property
    def _requests(self) -> Mapping[Request, Path]:
        again = f":{self.delivery}" if self.delivery > 1 else ""
        return {
            Request(
                f"{KEY}{file.name}:{file_digest(file, self.reading)[:16]}{again}",
                file.name,
                symbol_of(file.name, ending_of(file), self.reading.symbol_from),
            ): file
            for file in self.files
        }
