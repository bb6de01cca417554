"""`candlecast doctor`: checks of the machine and the settings, each with a remedy. One function per check."""

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

from assets.training.fit.base_weights import SECTIONS
from assets.training.prerequisites import weight_problems
from orchestration.cli.dagster_records import Damage
from orchestration.cli.preflight import bar_problems, bars_to_check, covariate_problems, source_problems
from orchestration.cli.stored_artifacts import damaged_artifacts
from resources.candlecast import Candlecast
from resources.compute import Compute, available_cores
from resources.errors import CandlecastError, WarehouseBusyError
from resources.hub_models import NamedModel, named_models, pinned_model
from resources.layout import Home
from resources.session_dates import newest_closed_session, session_dates
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
GIB = 2**30
REPAIR = "`candlecast doctor --repair` sets it aside and makes it again"
GIVE_UP = (
    "made by other settings or an earlier release, which alone repeat it: restore it from a backup, or `candlecast "
    "doctor --repair` records it as lost; quantiles and scores stay"
)
# A calendar may begin with a few holidays.
CALENDAR_MARGIN = timedelta(days=7)


@dataclass(frozen=True)
class Diagnosis:
    """The result of one check of the machine."""

    check: str
    ok: bool
    found: str
    remedy: str = ""

    def as_json(self) -> dict[str, object]:
        """The result as a JSON object."""
        return asdict(self)

    def as_line(self) -> str:
        """The result in one line."""
        remedy = f"  → {self.remedy}" if self.remedy else ""
        return f"{'ok ' if self.ok else 'NO '} {self.check:<20} {self.found}{remedy}"


def diagnose(settings: Settings, records: Callable[[], Iterable[Damage]] | None = None) -> list[Diagnosis]:
    """The results of all checks, from the interpreter to the calendar.

    Args:
        records: returns what is damaged of Dagster's records; None: they are read here.
    """

    def stored(settings: Settings) -> Iterator[Diagnosis]:
        return _stored(settings, records)

    checks: tuple[Callable[[Settings], Iterator[Diagnosis]], ...] = (
        _python, _packages, _device, _weights, _context, _plugins, _home, _warehouse, stored, _calendar, _data,
    )  # fmt: skip
    return [result for check in checks for result in check(settings)]


def _python(_: Settings) -> Iterator[Diagnosis]:
    version = platform.python_version()
    ok = (3, 11) <= tuple(map(int, version.split(".")[:2])) < (3, 13)
    yield Diagnosis("python", ok, version, "" if ok else "use Python 3.11 or 3.12")


def _packages(_: Settings) -> Iterator[Diagnosis]:
    for name in PACKAGES:
        try:
            yield Diagnosis(name, True, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Diagnosis(name, False, "not installed", "make install")


def _device(settings: Settings) -> Iterator[Diagnosis]:
    """The device that models will use, and its memory."""
    wanted, compute = settings.compute.device, Compute(settings.compute)
    try:
        device, free = compute.device_name(), compute.free_memory()
    except CandlecastError as error:
        yield Diagnosis("device", False, wanted, str(error))
        return
    named = _processor(device, settings.compute.threads)
    yield Diagnosis("device", True, f"{wanted}: {device}, {named}, {free / GIB:.1f} GiB of memory free")


def _processor(device: str, threads: int | None) -> str:
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(torch.device(device)))
    return f"{threads or available_cores()} threads"


def _weights(settings: Settings) -> Iterator[Diagnosis]:
    """Weights by hub name, commit and files, or folder. Those that training starts from are loaded as it loads them."""
    problems = weight_problems(settings)
    on_hub = named_models(settings)
    for section in SECTIONS.values():
        name, base = f"{section} weights", str(getattr(settings, section).base)
        # Several are the vintages of a template.
        named = [one for one in on_hub if one.key == f"{section}.base"]
        own = [text for text in problems if text.startswith(f"{section}.")]
        if len(named) > 1:
            yield from (_diagnosed(settings, one, name) for one in named)
        elif own:
            yield from (Diagnosis(name, False, base, text) for text in own)
        else:
            yield Diagnosis(name, True, _pinned_text(settings, named[0]) if named else base)
    bases = {f"{section}.base" for section in SECTIONS.values()}
    yield from (_diagnosed(settings, one, f"{one.model} weights") for one in on_hub if one.key not in bases)


def _diagnosed(settings: Settings, named: NamedModel, name: str) -> Diagnosis:
    try:
        return Diagnosis(name, True, _pinned_text(settings, named))
    except CandlecastError as error:
        return Diagnosis(name, False, named.repository, f"{named.key}: {error}")


def _pinned_text(settings: Settings, named: NamedModel) -> str:
    model = pinned_model(settings, named.repository, named.revision)
    return (
        f"{model.repository} {model.revision} at {model.commit[:12]} of {model.published}, licence "
        f"{model.licence or 'not stated'}: {len(model.files)} files, {model.size / 2**20:,.1f} MiB, match the lock; "
        f"{model.folder}"
    )


def _context(settings: Settings) -> Iterator[Diagnosis]:
    """Whether Kronos reads more bars than it was trained with: a warning, as it may be meant."""
    from assets.forecasting.kronos_forecaster import context_note

    try:
        predictor = Candlecast(settings).checkpoints.current("kronos_predictor")
    except CandlecastError:
        return  # damaged: `_stored` reports it
    if predictor is not None and (note := context_note(settings, predictor)):
        yield Diagnosis("context", True, f"warning: {note}")


def _plugins(settings: Settings) -> Iterator[Diagnosis]:
    """The models of the settings: each is made as a run makes it."""
    if not settings.enabled_models:
        return
    from assets.forecasting.registry import plugin_problems

    problems = plugin_problems(settings, Candlecast(settings).checkpoints)
    for name, model in settings.enabled_models.items():
        problem = problems.get(name, "")
        yield Diagnosis(f"model {name}", not problem, model.factory or f"entry point {name}", problem)


def _data(settings: Settings) -> Iterator[Diagnosis]:
    """The source, its symbols, and the ranges against its bars: what would end a run before or after the first fit."""
    candlecast = Candlecast(settings, warehouse=Warehouse.of(settings, wait=5))
    try:
        if problems := [*source_problems(candlecast), *covariate_problems(settings)]:
            yield from (Diagnosis("data", False, settings.market.source, text) for text in problems)
            return
        with bars_to_check(candlecast) as bars:
            found = [*bars.problems]
            if bars.warehouse is not None:
                found += bar_problems(settings, bars.warehouse, candlecast.calendar)
            yield from (Diagnosis("data", False, bars.text, text) for text in found)
            if not found:
                yield Diagnosis("data", True, f"{bars.text}: symbols, ranges and horizon fit")
    except (CandlecastError, duckdb.Error) as error:
        yield Diagnosis("data", False, settings.market.source, str(error))


def _home(settings: Settings) -> Iterator[Diagnosis]:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    found = f"{settings.home}, {free:.1f} GiB free"
    reason = _why_not_writable(folder)
    if reason:
        yield Diagnosis("home", False, f"{found}: {reason}", "set CANDLECAST_HOME to a writable folder")
        return
    remedy = (
        "" if free > SPACE_GIB else f"free some disk space, or set CANDLECAST_HOME to a disk with {SPACE_GIB:g} GiB"
    )
    yield Diagnosis("home", free > SPACE_GIB, found, remedy)


def _why_not_writable(folder: Path) -> str:
    """Why a folder is not writable; empty if it is."""
    if not folder.is_dir():
        return f"{folder} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"{folder} is not writable ({error.strerror})"


def _warehouse(settings: Settings) -> Iterator[Diagnosis]:
    warehouse = Warehouse.of(settings, wait=5)
    if not warehouse.exists:
        yield Diagnosis("warehouse", True, "does not exist yet", "candlecast run")
        return
    try:
        rows = warehouse.rows("SELECT count(*) AS bars FROM bars")[0]["bars"]
        yield Diagnosis("warehouse", True, f"{rows:,} bars")
    except WarehouseBusyError as error:
        yield Diagnosis("warehouse", False, str(error), "end the process that holds it")
    except (CandlecastError, duckdb.Error) as error:
        yield Diagnosis("warehouse", False, str(error), REPAIR)


def _stored(settings: Settings, records: Callable[[], Iterable[Damage]] | None) -> Iterator[Diagnosis]:
    """Every stored artifact is opened; one line per damaged one."""
    damaged = list(damaged_artifacts(settings, records))
    for one in damaged:
        name = one.path.relative_to(settings.home).parts[0] if one.path.is_relative_to(settings.home) else "warehouse"
        yield Diagnosis(f"stored {name}", False, one.text, REPAIR if one.repeatable else GIVE_UP)
    if not damaged:
        yield Diagnosis("stored artifacts", True, "all match their digests")


def _calendar(settings: Settings) -> Iterator[Diagnosis]:
    market, name = settings.market, settings.market.calendar
    # A doctor makes no home.
    home = Home(settings.home) if settings.home.is_dir() else None
    try:
        newest = newest_closed_session(market, home)
        first = session_dates(name, market.end or date.today(), home)[0]
    except CandlecastError as error:
        yield Diagnosis("calendar", False, str(error), "correct market.calendar, market.start and market.end")
        return
    end = f" up to market.end, {market.end}" if market.end else ""
    found = f"{name}, newest closed session{end}: {newest or 'none'}"
    if first > market.start + CALENDAR_MARGIN:
        yield Diagnosis(
            "calendar", False, f"{found}; it begins on {first}", f"set market.start, {market.start}, to {first}"
        )
        return
    yield Diagnosis("calendar", True, found)
