"""Bars of an existing Qlib bundle, with prices and volume as quoted.

A bundle contains adjusted prices and the adjustment factor: quoted = adjusted ÷ factor, volume × factor. Days without
a close are suspensions and give no row. The binary files are read with numpy, because Qlib evaluates expressions with
`eval`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from resources.errors import CandlecastError
from resources.sources.protocol import Reading, Request, Wanted

FIELDS = ("open", "high", "low", "close", "volume", "amount", "factor")
NEEDED = ("open", "high", "low", "close", "factor")
SCHEMA = pa.schema([("symbol", pa.string()), ("date", pa.date32()), *[(name, pa.float64()) for name in FIELDS]])


def qlib_reading(reading: Reading) -> Reading:
    """How to interpret the payload of a bundle."""
    return replace(reading, columns={}, basis="factor", actions="source")


@dataclass(frozen=True)
class QlibSource:
    """The folder of a bundle: calendars/, instruments/, features/."""

    folder: Path
    reading: Reading
    name: str = "qlib"
    by_range: bool = False

    def plan(self, wanted: Wanted) -> list[Request]:
        if wanted.frequency != "1d":
            raise CandlecastError('source "qlib" reads daily bundles: market.frequency = "1d"')
        for part in ("calendars/day.txt", "features"):
            if not (self.folder / part).exists():
                raise CandlecastError(f"market.path = …/{self.folder.name}: not a Qlib bundle, {part} is missing")
        return [Request(f"qlib:{self.folder.name}", f"{self.folder.name} (Qlib bundle)")]

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        return []

    def fingerprint(self, request: Request) -> str:
        total = hashlib.sha256((self.folder / "calendars" / "day.txt").read_bytes())
        for file in sorted(file for folder in self._series_folders() for file in folder.glob("[!.]*.day.bin")):
            total.update(f"{file.parent.name}/{file.name}\0".encode() + file.read_bytes())
        return total.hexdigest()

    def reaches(self, payload: Path) -> date | None:
        return None

    def fetch(self, request: Request, into: Path) -> str:
        days = np.loadtxt(self.folder / "calendars" / "day.txt", dtype="datetime64[D]", ndmin=1)
        with pyarrow.parquet.ParquetWriter(into, SCHEMA, compression="zstd") as writer:
            for table in self._tables(days):
                writer.write_table(table)
        return self.fingerprint(request)

    def _series_folders(self) -> list[Path]:
        """One folder per symbol. Hidden files of file managers (.DS_Store) are not part of a bundle."""
        return sorted(folder for folder in (self.folder / "features").iterdir() if not folder.name.startswith("."))

    def _tables(self, days: np.ndarray) -> Iterator[pa.Table]:
        for folder in self._series_folders():
            series = {name: _series(folder / f"{name}.day.bin", len(days)) for name in FIELDS}
            missing = [name for name in NEEDED if series[name] is None]
            if missing:
                raise CandlecastError(
                    f"{self.folder.name}/{folder.name}: {', '.join(f'{name}.day.bin' for name in missing)} is missing"
                )
            close = series["close"]
            assert close is not None
            traded = ~np.isnan(close)
            columns = {
                name: np.full(traded.sum(), np.nan) if values is None else values[traded]
                for name, values in series.items()
            }
            symbol = pa.array([folder.name.upper()] * int(traded.sum()))
            yield pa.table({"symbol": symbol, "date": pa.array(days[traded]), **columns}).cast(SCHEMA)


def _series(file: Path, length: int) -> np.ndarray | None:
    """A feature on the whole calendar, NaN outside its range. The file is float32: index of the first day, values."""
    if not file.is_file():
        return None
    stored = np.fromfile(file, dtype="<f4")
    if not len(stored) or int(stored[0]) + len(stored) - 1 > length:
        raise CandlecastError(
            f"{file.parent.name}/{file.name}: longer than the bundle's calendar: write the bundle again"
        )
    whole = np.full(length, np.nan)
    whole[int(stored[0]) : int(stored[0]) + len(stored) - 1] = stored[1:]
    return whole
