"""Metadata of an asset's page in one style: pictures, tables, column schemas, progress in the run's log.

https://docs.dagster.io/guides/build/assets/metadata-and-tags. Not here: how a picture is drawn (assets.plots).
"""

import base64
import time
from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.sessions import KEY_FORMAT
from resources.progress import Progress, progress_of

if TYPE_CHECKING:
    import pandas as pd

OWNERS = ["team:research"]
# Dagster's tag of the version of a materialisation.
DATA_VERSION_TAG = "dagster/data_version"
# Metadata of one session that the event log makes the version of its materialisation.
PARTITION_VERSION = "candlecast/data_version"
EMPTY = "empty"
TABLE_ROWS = 50
LOG_SECONDS = 10.0


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG inside the page."""
    return dg.MetadataValue.md(f"![](data:image/png;base64,{base64.b64encode(png).decode()})")


def table(frame: "pd.DataFrame") -> dg.MarkdownMetadataValue:
    """The first rows of a frame as a Markdown table. Numbers keep four significant digits."""
    shown = frame.head(TABLE_ROWS)
    lines = ["| " + " | ".join(map(str, shown.columns)) + " |", "|" + " --- |" * len(shown.columns)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in shown.itertuples(index=False)]
    if len(frame) > len(shown):
        lines.append(f"\n… {len(frame) - len(shown):,} more rows")
    return dg.MetadataValue.md("\n".join(lines))


def bullets(lines: list[str]) -> dg.MarkdownMetadataValue:
    """A Markdown list."""
    return dg.MetadataValue.md("\n".join(f"- {line}" for line in lines))


def schema(columns: Mapping[str, tuple[str, str]]) -> dg.TableSchema:
    """The value of `dagster/column_schema`: type and description by column name."""
    return dg.TableSchema(
        [dg.TableColumn(name, kind, description=text or None) for name, (kind, text) in columns.items()]
    )


def add_to_newest_partition(context: dg.AssetExecutionContext, metadata: Mapping[str, Any]) -> None:
    """Attach metadata to the newest session of a run alone.

    What a run over a range returns is stored once per session: a picture of 50 kB over thirteen years is 160 MB.
    """
    context.add_asset_metadata(metadata, partition_key=max(context.partition_keys))


def add_session_contents(
    context: dg.AssetExecutionContext, contents: Mapping[date, tuple[int, str]], sessions: Iterable[date]
) -> None:
    """Attach row count and data version to each session of a run; sessions that are not in `contents` have no rows."""
    for session in sessions:
        rows, version = contents.get(session, (0, EMPTY))
        context.add_asset_metadata(
            {"dagster/row_count": rows, PARTITION_VERSION: version}, partition_key=session.strftime(KEY_FORMAT)
        )


def logged_progress(context: dg.AssetExecutionContext, name: str) -> Progress:
    """The progress of one asset, reported to every observer and, every ten seconds, in the run's log."""
    report, logged_at = progress_of(name), time.monotonic()

    def progress(done: int, total: int, note: str = "") -> None:
        nonlocal logged_at
        report(done, total, note)
        if time.monotonic() - logged_at >= LOG_SECONDS:
            logged_at = time.monotonic()
            context.log.info("%s: %d of %d %s", name, done, total, note)

    return progress


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:,.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
