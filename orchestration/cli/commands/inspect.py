"""Commands on files of bars: inspect, init. Neither needs a home; inspect needs no settings file."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.cli.session import FAILED, AsJson, SettingsFile, error_message, reject

if TYPE_CHECKING:
    from resources.settings import Settings

Files = Annotated[list[Path], typer.Argument(help="Files of bars, or folders of them.")]
Calendar = Annotated[str | None, typer.Option(help="Exchange calendar. Default: the profile's, else inferred.")]
Frequency = Annotated[str | None, typer.Option(help="Length of a bar. Default: the profile's, else inferred.")]
# Later files of many are shown in full only where there is something to say of them.
SHOWN_FILES = 3
# What a profile says of its files; the path is that of the files themselves.
_SAID = (
    *("calendar", "frequency", "columns", "header", "symbol_from", "series", "stamp", "adjusted", "scale"),
    *("timezone", "date_order", "resample"),
)


def inspect(
    files: Files,
    profile: Annotated[
        str | None, typer.Option(help="Read the files with the settings of this profile. Default: with none.")
    ] = None,
    settings: SettingsFile = None,
    calendar: Calendar = None,
    frequency: Frequency = None,
    json_: AsJson = False,
) -> None:
    """Show what is understood of files, column by column, and the [market] settings that read them right.

    Exit status 1: a file cannot be read as it stands.
    """
    with _reported(json_):
        from orchestration.cli.file_inspection import MAX_REJECTED, files_of, inspect_files
        from orchestration.cli.inspection_report import as_json, as_text
        from orchestration.cli.profile_text import section

        loaded = _load(settings, profile)
        stated = {**(_stated(loaded) if loaded else {}), **_given(calendar, frequency)}
        limit = loaded.market.max_rejected if loaded else MAX_REJECTED
        with _scratch() as scratch:
            found = inspect_files(files_of(files), stated, scratch, limit)
        lines = section(profile or "mine", "market", found.settings)
        if json_:
            _write_json(
                {
                    "ok": found.ok,
                    "files": [as_json(one) for one in found.files],
                    "market": dict(found.settings),
                    "conflicts": list(found.conflicts),
                    "toml": lines,
                }
            )
        else:
            texts = [as_text(one, brief=number >= SHOWN_FILES) for number, one in enumerate(found.files)]
            remarks = [f"# differs: {conflict}\n" for conflict in found.conflicts]
            if any(one.reading for one in found.files):
                texts.append("".join([*remarks, lines]))
            sys.stdout.write("\n".join(texts))
        if not found.ok:
            raise typer.Exit(FAILED)


def init(
    folder: Annotated[Path, typer.Argument(help="A folder of files of bars, or one file.")],
    name: Annotated[str, typer.Option(help="Name of the new profile.")] = "mine",
    settings: Annotated[
        Path, typer.Option("--settings", help="Settings file; made, or the profile is added at its end.")
    ] = Path("candlecast.toml"),
    calendar: Calendar = None,
    frequency: Frequency = None,
    json_: AsJson = False,
) -> None:
    """Write a profile for files of bars: what `inspect` finds, and ranges for training, validation and test.

    An existing profile is never overwritten.
    """
    with _reported(json_):
        from orchestration.cli.initial_profile import write_profile

        with _scratch() as scratch:
            written = write_profile(folder, name, settings, _given(calendar, frequency), scratch)
        if json_:
            _write_json({"ok": True, **written.as_json()})
        else:
            sys.stdout.write(written.text)


def _load(file: Path | None, profile: str | None) -> "Settings | None":
    if profile is None:
        return None
    from resources.errors import SettingsError
    from resources.profiles import load_settings

    try:
        return load_settings(file, profile)
    except SettingsError as error:
        reject(str(error))


def _stated(settings: "Settings") -> dict[str, Any]:
    """The keys of [market] that a profile sets otherwise than by default, and calendar and frequency."""
    market = settings.market
    empty: tuple[object, ...] = (None, {}, ())
    return {key: value for key in _SAID if (value := getattr(market, key)) not in empty}


def _given(calendar: str | None, frequency: str | None) -> dict[str, Any]:
    given = {name: value for name, value in (("calendar", calendar), ("frequency", frequency)) if value}
    from pydantic import ValidationError

    from resources.settings import MarketSettings

    try:
        MarketSettings.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        reject(f"--{problem['loc'][0]} {problem['input']}: {problem['msg'].removeprefix('Value error, ')}")
    return given


@contextmanager
def _scratch() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="candlecast-") as folder:
        yield Path(folder)


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    """Errors with a message for the user end the command with exit status 1."""
    try:
        yield
    except Exception as error:
        message = error_message(error, Path())
        if message is None:
            raise
        if as_json:
            _write_json({"ok": False, "error": message})
        else:
            sys.stderr.write(f"{message}\n")
        raise typer.Exit(FAILED) from None


def _write_json(values: dict[str, Any]) -> None:
    from orchestration.cli.query import finite

    sys.stdout.write(json.dumps(finite(values), default=str, ensure_ascii=False) + "\n")
