"""What a person sees on an asset's page: pictures, tables, counts, in one style.

https://docs.dagster.io/guides/build/assets/metadata-and-tags. Not here: how a picture is drawn (assets.plots).
"""

import base64
import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from resources.progress import Progress, progress_of

OWNERS = ["team:research"]
TABLE_ROWS = 50
LOG_SECONDS = 10.0


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG inside the page."""
    return dg.MetadataValue.md(f"![](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(frame: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """The first rows of a frame, as a table. Numbers keep four significant digits."""
    shown = frame.head(TABLE_ROWS)
    lines = ["| " + " | ".join(map(str, shown.columns)) + " |", "|" + " --- |" * len(shown.columns)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in shown.itertuples(index=False)]
    if len(frame) > len(shown):
        lines.append(f"\n… {len(frame) - len(shown):,} more rows")
    return dg.MetadataValue.md("\n".join(lines))


def schema(columns: Mapping[str, str]) -> dg.TableSchema:
    """Column names and types, for `dagster/column_schema`."""
    return dg.TableSchema([dg.TableColumn(name, kind) for name, kind in columns.items()])


def tell_newest(context: dg.AssetExecutionContext, metadata: Mapping[str, Any]) -> None:
    """Put metadata on the newest session of a run alone.

    What a run over a range returns is stored once a session: a picture of 50 kB on thirteen years is 160 MB.
    """
    context.add_asset_metadata(metadata, partition_key=max(context.partition_keys))


def progress_in(context: dg.AssetExecutionContext, name: str) -> Progress:
    """The progress of one asset, told to every observer and, every ten seconds, in the run's log in the UI."""
    tell, spoke = progress_of(name), [time.monotonic()]

    def told(done: int, total: int, note: str = "") -> None:
        tell(done, total, note)
        if time.monotonic() - spoke[0] >= LOG_SECONDS:
            spoke[0] = time.monotonic()
            context.log.info("%s: %d of %d %s", name, done, total, note)

    return told


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:,.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
