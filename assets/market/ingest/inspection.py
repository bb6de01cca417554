"""Inspection of files: how each is read as it stands, and the settings of [market] that would read it right.

Belongs here: the search for settings, for `candlecast inspect` and `candlecast init`. Not here: how one file is read
(understanding), the guess of calendar and frequency (inference), and how the result is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.market.ingest.findings import Finding
from assets.market.ingest.inference import InferredMarket, infer_market
from assets.market.ingest.refusals import refusal_of
from assets.market.ingest.understanding import ColumnReading, FileReading, first_cells, understand
from resources.profiles import merged_sections
from resources.settings import MarketSettings
from resources.sources.protocol import Reading
from resources.sources.registry import reading_of

# A setting may show what another one hides, as the basis of prices behind a repeated row.
_MOST_ROUNDS = 6
INFERRED = ("calendar", "frequency", "timezone")


@dataclass(frozen=True)
class Inspection:
    """What is understood of a file.

    Attributes:
        problems: why the file is refused as it stands; empty: it can be ingested.
        warnings: what else its values show.
        settings: keys of the section [market] with which it is read as `reading` says.
        reading: with these settings; None: no settings were found with which it can be read.
        columns: all columns with examples, where there is no reading.
        notes: guesses to check.
    """

    file: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    reading: FileReading | None
    columns: tuple[ColumnReading, ...] = ()
    notes: tuple[str, ...] = ()


def inspect_file(file: Path, stated: Mapping[str, Any], scratch: Path, name: str, max_rejected: float) -> Inspection:
    """Read a file as the ingest would, and find the settings that correct what is wrong.

    Args:
        stated: keys of the section [market] that are set. Calendar and frequency are inferred where they are not.
        name: of the file in messages.
        max_rejected: the share of rows that may be rejected.
    """
    reading = _reading_of(stated)
    try:
        inferred = InferredMarket({}) if _is_stated(stated) else infer_market(file, stated, scratch, name)
        settings: Mapping[str, Any] = merged_sections(stated, inferred.settings)
        as_it_stands = understand(file, _reading_of(settings), scratch, name)
    except Exception as error:
        problem = refusal_of(error, name, points_to_inspect=False)
        return Inspection(name, (problem,), (), stated, None, first_cells(file, reading, scratch))
    settings, read = _mended(file, settings, as_it_stands, scratch, name)
    warnings = [finding.message for finding in as_it_stands.findings if finding.severity == "warning"]
    problems = _problems(as_it_stands, max_rejected)
    if zone := inferred.settings.get("timezone"):
        problems.append(
            f"{name}: the timestamps are those of {settings['calendar']} in {zone}, not in the exchange's zone: set "
            f'market.timezone = "{zone}"'
        )
    return Inspection(name, tuple(problems), tuple(warnings), settings, read, notes=inferred.notes)


def _is_stated(stated: Mapping[str, Any]) -> bool:
    return "calendar" in stated and "frequency" in stated


def _reading_of(settings: Mapping[str, Any]) -> Reading:
    return reading_of(MarketSettings.model_validate({**settings, "source": "files", "path": "*"}))


def _mended(
    file: Path, settings: Mapping[str, Any], read: FileReading, scratch: Path, name: str
) -> tuple[Mapping[str, Any], FileReading]:
    """The settings of the findings added one after the other, until there is none left or none helps."""
    tried = [dict(settings)]
    for _ in range(_MOST_ROUNDS):
        added = _decided(read.findings)
        wanted = merged_sections(settings, added)
        if not added or wanted in tried:
            break
        tried.append(dict(wanted))
        try:
            read = understand(file, _reading_of(wanted), scratch, name)
        except Exception as error:
            refusal_of(error, name, points_to_inspect=False)
            break
        settings = wanted
    return settings, read


def _decided(findings: Sequence[Finding]) -> Mapping[str, Any]:
    """The settings of all findings; of two for one key, those of the first."""
    settings: Mapping[str, Any] = {}
    for finding in sorted(findings, key=lambda one: one.severity):
        settings = merged_sections(finding.settings, settings)
    return settings


def _problems(read: FileReading, max_rejected: float) -> list[str]:
    problems = [finding.message for finding in read.errors]
    if not read.accepted:
        problems.append(f"{read.file}: no row can be read as a bar" if read.received else f"{read.file}: no rows")
    elif not problems and read.lost > max_rejected * read.received:
        problems.append(
            f"{read.file}: {read.lost:,} of {read.received:,} rows are rejected "
            f"({read.lost / read.received:.1%}; market.max_rejected allows {max_rejected:.1%})"
        )
    return problems
