"""Is this machine fit to run candlecast, and if not, what to do. Each check is one function and one line."""

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import duckdb

from assets.sessions import session_partitions
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse

PACKAGES = (
    "dagster",
    "duckdb",
    "torch",
    "transformers",
    "chronos-forecasting",
    "pyqlib",
    "pandas",
    "numpy",
    "exchange-calendars",
)
SPACE_GIB = 2.0
# A calendar may begin a few holidays after the first day that was asked for.
NEW_YEAR = timedelta(days=7)


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    ok: bool
    found: str
    remedy: str = ""

    def as_json(self) -> dict[str, object]:
        """The finding as plain values."""
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which a person would ask."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _python, _packages, _device, _hub, _home, _warehouse, _calendar,
    )  # fmt: skip
    return [finding for check in checks for finding in check(settings)]


def _python(_: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    ok = (3, 11) <= tuple(map(int, version.split(".")[:2])) < (3, 13)
    yield Finding("python", ok, version, "" if ok else "use Python 3.11 or 3.12")


def _packages(_: Settings) -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, False, "not installed", "make install")


def _device(settings: Settings) -> Iterator[Finding]:
    import torch

    wanted = settings.compute.device
    there = {"cpu": True, "auto": True, "mps": torch.backends.mps.is_available()}
    ok = there.get(wanted, torch.cuda.is_available())
    found = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    yield Finding("device", ok, f"{wanted}: {found}", "" if ok else 'set compute.device = "auto"')


def _hub(settings: Settings) -> Iterator[Finding]:
    from huggingface_hub import try_to_load_from_cache

    for section in ("tokenizer", "predictor", "chronos2"):
        base = getattr(settings, section).base
        if base in ("none", "packaged") or Path(base).expanduser().is_dir():
            yield Finding(f"{section} weights", True, base)
            continue
        cached = try_to_load_from_cache(base, "config.json", revision=getattr(settings, section).revision)
        remedy = "" if cached else f"not in the hub's cache: `hf download {base}`, or name a folder"
        yield Finding(f"{section} weights", isinstance(cached, str), base, remedy)


def _home(settings: Settings) -> Iterator[Finding]:
    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    found = f"{settings.home}, {free:.1f} GiB free"
    reason = _why_not_written(place)
    if reason:
        yield Finding("home", False, f"{found}: {reason}", "put CANDLECAST_HOME where it can be written")
        return
    remedy = "" if free > SPACE_GIB else f"free some disk, or put CANDLECAST_HOME where {SPACE_GIB:g} GiB are free"
    yield Finding("home", free > SPACE_GIB, found, remedy)


def _why_not_written(place: Path) -> str:
    """Why nothing can be written in a place; empty: it can."""
    if not place.is_dir():
        return f"{place} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"nothing can be written in {place} ({error.strerror})"


def _warehouse(settings: Settings) -> Iterator[Finding]:
    warehouse = Warehouse.of(settings, wait=5)
    if not warehouse.exists:
        yield Finding("warehouse", True, "not made yet", "candlecast run")
        return
    try:
        rows = warehouse.frame("SELECT count(*) AS bars FROM bars")["bars"][0]
        yield Finding("warehouse", True, f"{rows:,} bars")
    except (CandlecastError, duckdb.Error) as error:
        yield Finding("warehouse", False, str(error), "end the process that holds it, or restore the file")


def _calendar(settings: Settings) -> Iterator[Finding]:
    calendar, start = TradingCalendar(settings.market.calendar, settings.market.frequency), settings.market.start
    try:
        newest = session_partitions(settings, calendar).get_last_partition_key()
        begins = calendar.all_sessions()[0].date()
    except CandlecastError as error:
        yield Finding("calendar", False, str(error), "set market.calendar, market.start and market.end to what exists")
        return
    last = f" up to market.end, {settings.market.end}" if settings.market.end else ""
    found = f"{calendar.name}, newest session that is over{last}: {newest or 'none'}"
    if begins > start + NEW_YEAR:
        yield Finding("calendar", False, f"{found}; it begins on {begins}", f"set market.start, {start}, to {begins}")
        return
    yield Finding("calendar", True, found)
