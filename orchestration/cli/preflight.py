"""Mistakes in settings and data that would end a run after minutes; `run` refuses them first, `doctor` lists them.

Belongs here: which checks there are, and the bars that they read. Not here: what training needs
(assets.training.prerequisites), or the checks of the machine (orchestration.cli.doctor).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from assets.forecasting.chronos2.groups import read_groups
from assets.forecasting.chronos2.input_settings import event_columns
from assets.forecasting.known_events import read_events
from assets.forecasting.origins import origin_sessions
from assets.market.history import BarHistory, read_histories
from assets.market.ingest.lake import Lake
from assets.market.ingest.pending import due, pending_sessions, wanted_by
from assets.market.ingest.refusals import PayloadsRefusedError
from assets.market.selection import source_filter, wanted_symbols
from assets.market.universe import read_universe
from assets.training.data.histories import prepared
from assets.training.prerequisites import expiry_problems, weight_cutoffs, weight_problems, window_problems
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from resources.disclosure import shown_path
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings
from resources.sources.files import KEY
from resources.vintages import at_vintage, first_vintage, has_vintages
from resources.warehouse import Warehouse

# Files that the doctor reads though no run has ingested them: some seconds.
READ_AT_ONCE = 200 * 2**20


def settings_problems(candlecast: Candlecast) -> list[str]:
    """Problems that show without bars: of the source, the files of the settings, base weights, and plug-ins."""
    from assets.forecasting.registry import plugin_problems

    settings = candlecast.settings
    plugins = plugin_problems(settings, candlecast.checkpoints).values()
    return [*source_problems(candlecast), *covariate_problems(settings), *weight_problems(settings), *plugins]


def covariate_problems(settings: Settings) -> list[str]:
    """What cannot be used of the tables of known events and of groups that Chronos-2 reads."""
    problems = []
    try:
        if columns := event_columns(settings):
            read_events(settings, columns)
    except CandlecastError as error:
        problems.append(str(error))
    try:
        read_groups(settings)
    except CandlecastError as error:
        problems.append(str(error))
    return problems


def source_problems(candlecast: Candlecast) -> list[str]:
    """A source without files, and a members file that does not exist."""
    settings = candlecast.settings
    problems = []
    try:
        candlecast.source.plan(wanted_by(settings, *due(settings, candlecast.calendar)))
    except CandlecastError as error:
        problems.append(str(error))
    members = settings.market.members
    if members and not (settings.root / members).is_file():
        problems.append(f"market.members: {shown_path(members, settings.root)} does not exist")
    return problems


def bar_problems(settings: Settings, warehouse: Warehouse, calendar: TradingCalendar) -> list[str]:
    """Problems of the stored bars: symbols without bars, ranges without windows, a horizon that is too long."""
    symbols, sources = wanted_symbols(settings), source_filter(settings, warehouse)
    histories = read_histories(warehouse, settings.market.frequency, symbols, sources=sources)
    if not histories:
        return [f"no bars of market.symbols between market.start, {settings.market.start}, and market.end"]
    newest = max(history.days[-1] for history in histories.values()).astype(object)
    return [
        *_universe_problems(settings, warehouse),
        *_training_problems(settings, histories, warehouse),
        *horizon_problems(settings, histories, calendar),
        *cutoff_problems(settings, histories, calendar),
        *expiry_problems(settings, newest),
    ]


def _training_problems(settings: Settings, histories: Mapping[str, BarHistory], warehouse: Warehouse) -> list[str]:
    """Problems of the training ranges; with vintages of those of the first one, which has the fewest bars."""
    if not has_vintages(settings.windows):
        return window_problems(settings, prepared(histories, settings, warehouse))
    own = at_vintage(settings, first_vintage(settings.windows))
    cut = {name: one.until(own.windows.cutoff) for name, one in histories.items()}
    known = {name: one for name, one in cut.items() if len(one)}
    return window_problems(own, prepared(known, own, warehouse), needs_origins=False)


def horizon_problems(settings: Settings, histories: Mapping[str, BarHistory], calendar: TradingCalendar) -> list[str]:
    """A horizon that no planned origin can carry: nothing could be scored over all steps.

    An origin carries the horizon if a symbol has a bar there and `predict_window` bars after it.
    """
    windows, planned = settings.windows, _planned_origins(settings, calendar)
    if not len(planned) or len(_carried(planned, histories, windows.predict_window)):
        return []
    newest: date = max(history.days[-1] for history in histories.values()).astype(object)
    after = max(int((history.days > planned[0]).sum()) for history in histories.values())
    return [
        f"windows.predict_window = {windows.predict_window}: no origin of windows.test, {windows.test[0]} … "
        f"{windows.test[1]}, has that many bars after it; the first, {planned[0]}, has {after}, up to {newest}. Lower "
        "windows.predict_window, start windows.test earlier, or add bars"
    ]


def cutoff_problems(settings: Settings, histories: Mapping[str, BarHistory], calendar: TradingCalendar) -> list[str]:
    """Cutoffs of all models with weights at or after the last origin that has an outcome: nothing could be scored.

    A model beside others, or beside plug-ins, that has no such origin is named by the check every_model_is_compared.
    """
    cutoffs = weight_cutoffs(settings)
    if not cutoffs or settings.enabled_models:
        return []
    scored = _carried(_planned_origins(settings, calendar), histories, 1)
    if not len(scored) or any(cutoff and cutoff < scored[-1].item() for cutoff, _ in cutoffs.values()):
        return []
    named = "; ".join(
        f"{section}: {f'cutoff {cutoff}' if cutoff else 'no cutoff is known'}{', the day of publication' * bounded}"
        for section, (cutoff, bounded) in cutoffs.items()
    )
    return [
        f"windows.test: every origin, the last {scored[-1]}, is in-sample for every model with weights ({named}): "
        "nothing would be scored. Move windows.test after the cutoffs and add bars that reach there, or, where no "
        "cutoff is known, state cutoff or published in the section"
    ]


def _planned_origins(settings: Settings, calendar: TradingCalendar) -> np.ndarray:
    """The sessions of windows.test that are origins: (n,) datetime64[D]."""
    sessions = calendar.covered_sessions(*settings.windows.test)
    return np.array(origin_sessions(sessions, settings, calendar), dtype="datetime64[D]")


def _carried(planned: np.ndarray, histories: Mapping[str, BarHistory], bars: int) -> np.ndarray:
    """Those origins at which a symbol has a bar, and `bars` bars after it."""
    found = [planned[np.isin(planned, history.days[:-bars])] for history in histories.values()]
    return np.unique(np.concatenate(found))


def _universe_problems(settings: Settings, warehouse: Warehouse) -> list[str]:
    """Symbols without bars, and a members file that cannot be read or lacks a symbol of the settings."""
    try:
        universe = read_universe(settings, warehouse)
    except CandlecastError as error:
        return [str(error)]
    if not settings.market.members:
        return []
    absent = sorted(set(wanted_symbols(settings) or []) - universe.memberships.keys())
    if absent or not universe.memberships:
        return [
            f"market.members: {settings.market.members} has no row for {', '.join(absent) or 'any symbol with bars'}: "
            "add symbol, start, end, or take the symbol out of market.symbols"
        ]
    return []


def require_none(problems: list[str]) -> None:
    """Raise all problems as one error.

    Raises:
        CandlecastError: there are problems.
    """
    if problems:
        raise CandlecastError("\n".join(problems))


@dataclass(frozen=True)
class CheckedBars:
    """The bars that the doctor checks.

    Attributes:
        warehouse: that holds them; None: they were not read.
        text: which bars they are, or why they were not read.
        problems: files that are refused.
    """

    warehouse: Warehouse | None
    text: str
    problems: tuple[str, ...] = ()


@contextmanager
def bars_to_check(candlecast: Candlecast) -> Iterator[CheckedBars]:
    """The bars as a run would have them: the stored ones, or the source's files read into a temporary home."""
    settings, source, stored = candlecast.settings, candlecast.source, candlecast.warehouse
    if stored.exists and not pending_sessions(settings, candlecast.home, stored, candlecast.calendar, source):
        yield CheckedBars(stored, "the stored bars")
    elif source.by_range or (settings.market.drop and stored.exists):
        existing = stored if stored.exists else None
        yield CheckedBars(existing, "some bars are not ingested yet: `candlecast run` checks them before any fit")
    elif (size := _source_size(candlecast)) > READ_AT_ONCE:
        text = f"files of {size / 2**20:,.0f} MiB are not ingested yet: `candlecast run` checks them before any fit"
        yield CheckedBars(None, text)
    else:
        with tempfile.TemporaryDirectory(prefix="candlecast-doctor-") as folder:
            yield _read_into(Home(Path(folder)), candlecast)


def _read_into(home: Home, candlecast: Candlecast) -> CheckedBars:
    from assets.market.actions import refresh_actions
    from assets.market.ingest.ingest import ingest
    from assets.market.ingest.landing import land

    lake, warehouse, problems = Lake(home), Warehouse(home.warehouse), tuple[str, ...]()
    settings = candlecast.settings
    try:
        land(lake, warehouse, candlecast.source, wanted_by(settings, *due(settings, candlecast.calendar)))
    except PayloadsRefusedError as error:  # the others have landed
        problems = (str(error),)
    ingest(lake, warehouse)
    refresh_actions(warehouse)
    return CheckedBars(warehouse, "the source's bars, which are not ingested yet", problems)


def _source_size(candlecast: Candlecast) -> int:
    """Bytes of the files of the source; 0: it has no files of its own."""
    settings = candlecast.settings
    if settings.market.source != "files":
        return 0
    requests = candlecast.source.plan(wanted_by(settings, *due(settings, candlecast.calendar)))
    return sum((settings.root / request.key.removeprefix(KEY)).stat().st_size for request in requests)
