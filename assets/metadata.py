"""Metadata of an asset's page in one style: pictures, tables, column schemas, progress in the run's log.

https://docs.dagster.io/guides/build/assets/metadata-and-tags. Not here: how a picture is drawn (plots) and
stored (picture_files).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import dagster as dg

from assets.picture_files import PictureFiles
from assets.sessions import KEY_FORMAT
from resources.layout import Home
from resources.progress import Progress, progress_of

if TYPE_CHECKING:
    import pandas as pd

P = ParamSpec("P")

OWNERS = ["team:research"]
# Dagster's tag of the version of a materialisation.
DATA_VERSION_TAG = "dagster/data_version"
# Metadata of one session that the event log makes the version of its materialisation.
PARTITION_VERSION = "candlecast/data_version"
EMPTY = "empty"
TABLE_ROWS = 50
LOG_SECONDS = 10.0
# Where `orchestration.result_files` serves files of the home, under the address of the UI.
SERVED = "/candlecast"
# Longer Markdown is hidden behind "[Show Markdown]".
INLINE_CHARACTERS = 999


def chart(home: Home, draw: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs) -> dg.MarkdownMetadataValue:
    """A chart that the page shows at once, and in full size by a click. The webserver of `candlecast ui` draws it when
    it is looked at first: a run stores its data alone.

    Args:
        draw: a function of `assets.charts.CHARTS`.
    """
    from assets.charts import chart_data

    return _shown(PictureFiles(home.pictures).store_chart(chart_data(draw, *args, **kwargs)))


def picture(png: bytes, home: Home) -> dg.MarkdownMetadataValue:
    """An existing PNG that the page shows at once, and in full size by a click."""
    return _shown(PictureFiles(home.pictures).store_png(png))


def home_path(path: Path, home: Home) -> dg.PathMetadataValue:
    """A path relative to the home: pages are shown to others, and the home may move."""
    return dg.MetadataValue.path(path.relative_to(home.root).as_posix())


def served_report(digest: str) -> dg.UrlMetadataValue:
    """The address of a report under that of the UI."""
    return dg.MetadataValue.url(f"{SERVED}/reports/{digest[:16]}/report.html")


def table(frame: "pd.DataFrame") -> dg.TableMetadataValue:
    """The first rows of a frame. Numbers keep four significant digits."""
    shown, names = frame.head(TABLE_ROWS), [str(name) for name in frame.columns]
    records = [dg.TableRecord(dict(zip(names, map(_cell, row), strict=True))) for row in shown.itertuples(index=False)]
    if len(frame) > len(shown):
        records.append(dg.TableRecord({**dict.fromkeys(names, ""), names[0]: f"… {len(frame) - len(shown):,} more"}))
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name) for name in names]))


def bullets(lines: Sequence[str]) -> dg.MarkdownMetadataValue:
    """A Markdown list."""
    return dg.MetadataValue.md("\n".join(f"- {line}" for line in lines))


def inline_bullets(name: str, lines: Sequence[str]) -> dict[str, dg.MarkdownMetadataValue]:
    """A Markdown list as one entry, or as several (`name`, `name_2`, …), each short enough to be shown at once."""
    groups = list(_grouped(lines))
    return {name if place == 0 else f"{name}_{place + 1}": bullets(group) for place, group in enumerate(groups)}


def schema(columns: Mapping[str, tuple[str, str]]) -> dg.TableSchema:
    """The value of `dagster/column_schema`: type and description by column name."""
    return dg.TableSchema(
        [dg.TableColumn(name, kind, description=text or None) for name, (kind, text) in columns.items()]
    )


def column_lineage(columns: Mapping[str, Sequence[str]]) -> dg.TableColumnLineage:
    """The value of `dagster/column_lineage`: by column, the columns that it is computed from, as `asset.column`."""
    sources = {name: [source.rpartition(".") for source in found] for name, found in columns.items()}
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(asset, column) for asset, _, column in found] for name, found in sources.items()}
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
    found = {session.strftime(KEY_FORMAT): contents.get(session, (0, EMPTY)) for session in sessions}
    _add_by_partition(
        context,
        {key: {"dagster/row_count": rows, PARTITION_VERSION: version} for key, (rows, version) in found.items()},
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


def _add_by_partition(context: dg.AssetExecutionContext, metadata: Mapping[str, Mapping[str, Any]]) -> None:
    """What `context.add_asset_metadata` does for each of these partitions of the run.

    That function copies the metadata of all partitions with each call, and lists them: 10 s for 4,000 partitions. What
    it adds to has no public name.
    """
    from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator

    step = context.get_step_execution_context()
    merged = dict(step._metadata_accumulator.per_output_metadata)
    for key, values in metadata.items():
        handle = AssetMetadataHandle(asset_key=context.asset_key, partition_key=key)
        merged[handle] = {**merged.get(handle, {}), **values}
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=merged)


def _shown(digest: str) -> dg.MarkdownMetadataValue:
    """A link to a file that the webserver serves; data inside the Markdown would be hidden behind a button."""
    address = f"{SERVED}/pictures/{digest}"
    missing = f"picture {digest} of the home; shown by the webserver of candlecast ui"
    return dg.MetadataValue.md(f"[![{missing}]({address}-page.png)]({address}.png)")


def _grouped(lines: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for line in lines:
        if group and sum(len(one) + 3 for one in [*group, line]) > INLINE_CHARACTERS:
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _cell(value: object) -> str | int | float | bool:
    if isinstance(value, float):
        return "–" if value != value else float(f"{value:.4g}")
    return value if isinstance(value, int | bool) else str(value)
