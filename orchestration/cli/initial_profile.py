"""`candlecast init`: a profile for files of bars, from what `inspect` finds and from the sessions that are there.

Not here: how the files are read (file_inspection), and the models: the profile inherits those of `sample`.
"""

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from assets.market.ingest.understanding import FileReading
from assets.training.data.windows import FEWEST
from orchestration.cli.file_inspection import FilesInspection, files_of, inspect_files, path_of
from orchestration.cli.profile_text import section
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.publish import publish_bytes
from resources.sources.files import ending_of

# Lookback and horizon; the first that the bars suffice for are taken.
SHAPES = ((90, 10), (60, 10), (40, 5), (30, 5), (20, 4), (15, 3), (10, 2))
# Shares of the sessions: training, validation; the rest is for the test.
LONG_SHARES, SHORT_SHARES = (0.75, 0.10), (0.60, 0.20)
EMBARGO = 5
# With fewer sessions than this the embargo would take a part of the validation that matters.
MANY_SESSIONS = 500
_FEW_SYMBOLS = 3


@dataclass(frozen=True)
class WrittenProfile:
    """A profile that was written, and the commands to run next."""

    file: Path
    name: str
    files: int
    rows: int
    remarks: tuple[str, ...]
    commands: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {**vars(self), "remarks": list(self.remarks), "commands": list(self.commands)}

    @property
    def text(self) -> str:
        remarks = "".join(f"  {remark}\n" for remark in self.remarks)
        commands = "".join(f"  {command}\n" for command in self.commands)
        head = f"{self.file}: profile {self.name!r} of {self.files:,} files, {self.rows:,} rows\n"
        return f"{head}{remarks}next:\n{commands}"


def write_profile(path: Path, name: str, settings: Path, stated: Mapping[str, Any], scratch: Path) -> WrittenProfile:
    """Inspect the files of a folder, and add a profile for them to a settings file.

    Args:
        stated: calendar and frequency, where they are given.

    Raises:
        CandlecastError: the profile exists; a file cannot be read with any setting; the files differ; too few bars.
    """
    existing = _existing(settings, name)
    files = files_of([path])
    found = inspect_files(files, stated, scratch)
    unread = [one for one in found.files if one.reading is None or one.reading.errors or not one.reading.accepted]
    if unread:
        problems = "\n".join(f"  {problem}" for one in unread for problem in one.problems)
        raise CandlecastError(f"{len(unread)} of {len(files)} files cannot be read:\n{problems}")
    if found.conflicts:
        raise CandlecastError("the files need different settings:\n" + "\n".join(found.conflicts))
    readings = [one.reading for one in found.files if one.reading]
    text = _text(name, {**found.settings, "path": _path(files, path, settings), "symbols": "all"}, readings)
    head = f'profile = "{name}"\n\n' if existing is None else f"{existing.rstrip()}\n\n"
    publish_bytes(settings, f"{head}{text}".encode())
    return WrittenProfile(
        settings,
        name,
        len(files),
        sum(one.accepted for one in readings),
        tuple(dict.fromkeys([note for one in found.files for note in one.notes] + _warnings(found))),
        _commands(settings, name, existing is not None),
    )


def _existing(settings: Path, name: str) -> str | None:
    """The text of an existing settings file; None: there is none.

    Raises:
        CandlecastError: it has the profile already, or cannot be read.
    """
    if not settings.exists():
        return None
    try:
        text = settings.read_text(encoding="utf-8-sig")
        profiles = tomllib.loads(text).get("profiles", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CandlecastError(f"{settings}: not valid TOML ({error}): correct it, or name another file") from error
    if name in profiles or name == "sample":
        raise CandlecastError(
            f"{settings}: there is a profile {name!r}, which is not overwritten: choose another with --name, or "
            "another file with --settings"
        )
    return text


def _path(files: Sequence[Path], path: Path, settings: Path) -> str:
    """The glob of the files, relative to the settings file where they are below its folder."""
    folder = settings.absolute().parent
    absolute = [file.absolute() for file in files]
    if all(file.is_relative_to(folder) for file in absolute):
        absolute = [file.relative_to(folder) for file in absolute]
    if len(absolute) > 1 or path.is_file():
        return path_of(absolute)
    # New files of the folder belong to the profile as well.
    return (absolute[0].parent / f"*{ending_of(files[0])}").as_posix()


def _text(name: str, market: Mapping[str, Any], readings: Sequence[FileReading]) -> str:
    """The sections of a profile."""
    windows = _windows(market, readings)
    sections = [section(name, "market", market), section(name, "windows", windows)]
    symbols = sum(one.symbols for one in readings)
    if symbols < _FEW_SYMBOLS:
        sections.append(section(name, "backtest", {"topk": 1, "n_drop": 1}))
    return "\n".join(sections)


def _windows(market: Mapping[str, Any], readings: Sequence[FileReading]) -> dict[str, Any]:
    """Lookback, horizon and the three ranges that the sessions of the files suffice for.

    Raises:
        CandlecastError: they suffice for none.
    """
    spans = [(one.first.ts, one.last.ts) for one in readings if one.first and one.last]
    calendar = TradingCalendar(market["calendar"], market["frequency"])
    first, last = min(span[0] for span in spans).date(), max(span[1] for span in spans).date()
    sessions = calendar.sessions(*calendar.within(first, last))
    bars = max(1, round(len(calendar.stamps(*[sessions[-1].date()] * 2)))) if not calendar.is_daily else 1
    symbols = max(1, max(one.symbols for one in readings), len({one.first.symbol for one in readings if one.first}))
    is_long = len(sessions) >= MANY_SESSIONS
    embargo = EMBARGO if is_long else min(EMBARGO, len(sessions) // 50)
    train, validation = LONG_SHARES if is_long else SHORT_SHARES
    ends = (round(train * len(sessions)), round((train + validation) * len(sessions)))
    for lookback, horizon in SHAPES:
        if _suffices(ends, len(sessions), bars, symbols, lookback + horizon, embargo):
            break
    else:
        raise CandlecastError(
            f"{len(sessions):,} sessions of {bars:,} bars ({first} … {last}) are too few for training, validation and "
            f"test, also with a lookback of {SHAPES[-1][0]} bars: add files"
        )
    shortest = min(one.accepted // max(1, one.symbols) for one in readings)
    return {
        "lookback_window": lookback,
        "predict_window": horizon,
        "train": _range(sessions, 0, ends[0]),
        "validation": _range(sessions, *ends),
        "test": _range(sessions, ends[1], len(sessions)),
        "embargo": embargo,
        **({"short_history": "exclude"} if shortest < 2 * (lookback + horizon) else {}),
    }


def _suffices(ends: tuple[int, int], sessions: int, bars: int, symbols: int, length: int, embargo: int) -> bool:
    """Whether each range holds the fewest windows that training accepts, with one to spare."""
    train, validation = ends[0] * bars // length, (ends[1] - ends[0] - embargo) * bars // length
    test = (sessions - ends[1] - embargo) * bars
    return (
        train * symbols > FEWEST["train"]
        and validation * symbols >= FEWEST["validation"]
        and min(train, validation) >= 1
        and test >= length // 2
    )


def _range(sessions: pd.DatetimeIndex, first: int, end: int) -> list[date]:
    return [sessions[first].date(), sessions[end - 1].date()]


def _warnings(found: FilesInspection) -> list[str]:
    return [warning for one in found.files for warning in one.warnings]


def _commands(settings: Path, name: str, added: bool) -> tuple[str, ...]:
    options = f"--settings {shlex.quote(str(settings))} --profile {shlex.quote(name)}"
    # The home of a settings file that was there belongs to one of its other profiles.
    home = f" --home {shlex.quote(str(settings.parent / 'data' / name))}" if added else ""
    return (f"candlecast doctor {options}{home}", f"candlecast run {options}{home}")
