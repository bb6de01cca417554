"""`candlecast inspect` of one or many files: the files that are meant, their inspections, and one set of settings.

Not here: one file (assets.market.ingest.inspection), and how results are shown (inspection_report).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.market.ingest.inspection import INFERRED, Inspection, inspect_file
from resources.errors import CandlecastError
from resources.profiles import merged_sections
from resources.progress import progress_of
from resources.settings import MarketSettings
from resources.sources.files import ENDINGS, ending_of

MAX_REJECTED: float = MarketSettings.model_fields["max_rejected"].default


@dataclass(frozen=True)
class FilesInspection:
    """Inspections of files, and the section [market] for all of them.

    Attributes:
        settings: source, path, start and what the files need.
        conflicts: settings in which the files differ, as text.
    """

    files: tuple[Inspection, ...]
    settings: Mapping[str, Any]
    conflicts: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every file can be ingested as it stands."""
        return not any(one.problems for one in self.files)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and those in the folders that are named.

    Raises:
        CandlecastError: a path does not exist, or a folder has no file of bars.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and ending_of(file))
            inside = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
            if not inside:
                raise CandlecastError(f"{path}: no {', '.join(ENDINGS)} file in this folder")
            found += inside
        elif not path.is_file():
            raise CandlecastError(f"{path}: no such file")
        elif not ending_of(path):
            raise CandlecastError(f"{path}: not a file of bars, which end with {', '.join(ENDINGS)}: rename it")
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def inspect_files(
    files: Sequence[Path], stated: Mapping[str, Any], scratch: Path, max_rejected: float = MAX_REJECTED
) -> FilesInspection:
    """Inspect files, and find one set of settings for all.

    Args:
        stated: keys of the section [market] that are set.
    """
    progress = progress_of("files")
    inspections: list[Inspection] = []
    for number, file in enumerate(files):
        progress(number, len(files), file.name)
        inspections.append(_inspect(file, stated, inspections, scratch, max_rejected))
    needed, conflicts = _needed(inspections)
    for one, file in zip(inspections, files, strict=True):
        if one.reading and dict(one.settings) != needed:
            again = inspect_file(file.absolute(), needed, scratch, str(file), max_rejected)
            conflicts += [f"with the settings of the other files: {problem}" for problem in again.problems]
    firsts = [one.reading.first.ts.date() for one in inspections if one.reading and one.reading.first]
    start = {"start": min(firsts)} if firsts and "start" not in stated else {}
    settings = merged_sections({"source": "files", "path": path_of(files), **start}, needed)
    return FilesInspection(tuple(inspections), settings, tuple(conflicts))


def _inspect(
    file: Path, stated: Mapping[str, Any], earlier: Sequence[Inspection], scratch: Path, max_rejected: float
) -> Inspection:
    """One file. Calendar, frequency and zone of the file before it are tried first, which saves the guess."""
    before = next((one.settings for one in reversed(earlier) if one.reading), None)
    if before and not {"calendar", "frequency"} <= stated.keys():
        guess = {name: before[name] for name in INFERRED if name in before}
        tried = inspect_file(file.absolute(), merged_sections(stated, guess), scratch, str(file), max_rejected)
        if tried.reading and not tried.problems:
            return tried
    return inspect_file(file.absolute(), stated, scratch, str(file), max_rejected)


def _needed(inspections: Sequence[Inspection]) -> tuple[dict[str, Any], list[str]]:
    """The settings of all files; of a key in which they differ, the most frequent value."""
    read = [one for one in inspections if one.reading]
    needed: dict[str, Any] = {}
    conflicts = []
    for key in dict.fromkeys(key for one in read for key in one.settings):
        values = [(one.settings[key], one.file) for one in read if key in one.settings]
        if all(isinstance(value, Mapping) for value, _ in values):
            for value, _ in values:
                needed[key] = merged_sections(value, needed.get(key, {}))
            continue
        usual = Counter(repr(value) for value, _ in values).most_common(1)[0][0]
        needed[key] = next(value for value, _ in values if repr(value) == usual)
        others = [(value, file) for value, file in values if repr(value) != usual]
        if others:
            value, file = others[0]
            conflicts.append(
                f"{key}: {file} needs {value!r}, other files {usual}: give them a profile of their own, in another home"
            )
    return needed, conflicts


def path_of(files: Sequence[Path]) -> str:
    """A glob of exactly these files, where there is one; else of all files below their common folder."""
    if len(files) == 1:
        return files[0].as_posix()
    folders = {file.parent for file in files}
    endings = {ending_of(file) for file in files}
    ending = endings.pop() if len(endings) == 1 else ""
    if len(folders) == 1:
        return (folders.pop() / f"*{ending}").as_posix()
    shared = [parts[0] for parts in zip(*(folder.parts for folder in folders), strict=False) if len(set(parts)) == 1]
    return (Path(*shared) / "**" / f"*{ending}").as_posix()
