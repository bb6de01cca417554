"""A folder of files, a lake and a warehouse: the environment of the market tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd

from assets.market.acceptance import conservation_errors
from assets.market.ingest.ingest import Ingested, ingest
from assets.market.ingest.lake import Lake
from assets.market.ingest.landing import land
from resources.layout import Home
from resources.sources.files import FilesSource
from resources.sources.protocol import Reading, Wanted
from resources.warehouse import Warehouse

HEADER = "symbol,date,open,high,low,close,volume"
GOOD = "AAPL,2012-01-03,10,11,9,10.5,1000"


@dataclass(frozen=True)
class Desk:
    """Source files are below `folder`; everything that candlecast writes is below `home`."""

    folder: Path
    home: Home
    reading: Reading
    path: str = "*"

    @property
    def lake(self) -> Lake:
        return Lake(self.home)

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home.warehouse)

    @property
    def source(self) -> FilesSource:
        return FilesSource(self.path, self.folder, self.reading)

    def write(self, name: str, text: str | bytes) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def land(self) -> None:
        wanted = Wanted(None, date(2000, 1, 1), date(2020, 1, 1), self.reading.frequency)
        land(self.lake, self.warehouse, self.source, wanted)

    def ingest(self) -> Ingested:
        self.land()
        done = ingest(self.lake, self.warehouse)
        assert conservation_errors(self.warehouse, self.lake) == []
        return done

    def ingest_text(self, text: str | bytes, name: str = "bars.csv") -> Ingested:
        self.write(name, text)
        return self.ingest()

    def bars(self) -> pd.DataFrame:
        return self.warehouse.frame("FROM bars ORDER BY frequency, symbol, ts")

    def rejected(self) -> pd.DataFrame:
        return self.warehouse.frame("FROM rejected_bars ORDER BY batch, file, row_number")

    def rules(self) -> list[str]:
        return self.rejected()["rule"].tolist()


def make_desk_in(folder: Path, **reading: object) -> Desk:
    """A new desk below a folder; daily bars of New York by default."""
    (folder / "bars").mkdir(parents=True, exist_ok=True)
    values = {"calendar": "XNYS", "frequency": "1d", **reading}
    return Desk(folder / "bars", Home(folder / "home"), Reading(**values))  # type: ignore[arg-type]
