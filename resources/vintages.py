"""Vintages: the dates on which models are trained anew, and the settings of each.

A vintage is named by its date. It is trained on bars before that date alone, and forecasts the sessions from it to the
next vintage. The first one follows `windows.validation`; later ones move the ranges forward. Not here: their partitions
(assets.sessions), and their checkpoints (resources.checkpoints).
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

from resources.errors import CandlecastError

if TYPE_CHECKING:
    from resources.settings import ModelSettings, Settings, WindowSettings
    from resources.settings_training import StartingWeights

DAY = timedelta(days=1)
MONTHS = {"year": 12, "quarter": 3, "month": 1}
# Placeholders in names of weights: year, quarter and month of the last day before the vintage.
PLACEHOLDERS = ("{year}", "{quarter}", "{month}")
BASES = ("tokenizer", "predictor", "chronos2", "volatility")


def has_vintages(windows: WindowSettings) -> bool:
    """Whether models are trained by vintage."""
    return windows.vintage != "none"


def first_vintage(windows: WindowSettings) -> date:
    """The date of the first vintage: the day after `windows.validation`."""
    return windows.validation[1] + DAY


def vintages_until(windows: WindowSettings, last: date) -> Iterator[date]:
    """The dates of the vintages up to a day, oldest first; none without vintages."""
    if not has_vintages(windows):
        return
    first, months = first_vintage(windows), MONTHS[windows.vintage]
    number = 0
    while (vintage := months_after(first, number * months)) <= last:
        yield vintage
        number += 1


def vintage_of(windows: WindowSettings, session: date) -> date | None:
    """The vintage that forecasts a session: the newest on or before it. None: there are no vintages.

    Raises:
        CandlecastError: the session is before the first vintage.
    """
    if not has_vintages(windows):
        return None
    newest = max(vintages_until(windows, session), default=None)
    if newest is None:
        raise CandlecastError(
            f"session {session} is before the first vintage, {first_vintage(windows)}: choose a later session, or let "
            "windows.validation end earlier"
        )
    return newest


def at_vintage(settings: Settings, vintage: date) -> Settings:
    """The settings of one vintage: its ranges, as if there were no others.

    The validation range ends the day before the vintage and is as long as that of the settings; the training range ends
    before it, and starts where that of the settings does, or `windows.vintage_train_years` earlier than it ends. A
    symbol with too little history before the vintage is left out.
    """
    windows = settings.windows
    moved = _months_between(first_vintage(windows), vintage)
    end = months_after(windows.train[1] + DAY, moved) - DAY
    years, start = windows.vintage_train_years, windows.train[0]
    if years is not None:
        start = max(start, months_after(end + DAY, -12 * years))
    own = windows.model_copy(
        update={
            "train": (start, end),
            "validation": (months_after(windows.validation[0], moved), vintage - DAY),
            "test": (vintage, max(vintage, windows.test[1])),
            "short_history": "exclude",
            "vintage": "none",
            "vintage_train_years": None,
        }
    )
    bases = {name: _base_at(getattr(settings, name), vintage) for name in BASES}
    models = {name: _model_at(model, vintage) for name, model in settings.models.items()}
    return settings.model_copy(update={"windows": own, "models": models, **bases})


def settings_by_vintage(settings: Settings) -> list[tuple[date | None, Settings]]:
    """The vintages up to `market.end` or today with the settings of each, or (None, settings) without vintages.

    Only the first one where all name the same weights.
    """
    if not has_vintages(settings.windows):
        return [(None, settings)]
    until = settings.market.end or date.today()
    dates = list(vintages_until(settings.windows, until)) or [first_vintage(settings.windows)]
    names = [getattr(settings, name).base for name in BASES]
    names += [value for model in settings.models.values() for value in model.options.values()]
    alike = not any(map(is_template, names))
    return [(one, at_vintage(settings, one)) for one in (dates[:1] if alike else dates)]


def is_template(name: object) -> bool:
    """Whether a name of weights, or an option of a model, differs from vintage to vintage."""
    return isinstance(name, str) and any(one in name for one in PLACEHOLDERS)


def expand_template(name: str, vintage: date) -> str:
    """A name with the year, quarter and month of the last day before a vintage.

    Of that day, because weights that are named by a year were trained on it: those of 2010 forecast from 2011 on.
    """
    last = vintage - DAY
    values = (f"{last.year}", f"{(last.month + 2) // 3}", f"{last.month:02}")
    for placeholder, value in zip(PLACEHOLDERS, values, strict=True):
        name = name.replace(placeholder, value)
    return name


def _base_at(section: StartingWeights, vintage: date) -> StartingWeights:
    """A section whose base weights, where their name has a year, were published before the vintage."""
    if not is_template(section.base):
        return section
    known = section.cutoff or section.published
    dated = {} if known else {"published": vintage - DAY}
    return section.model_copy(update={"base": expand_template(section.base, vintage), **dated})


def _model_at(model: ModelSettings, vintage: date) -> ModelSettings:
    expanded = {key: expand_template(value, vintage) for key, value in model.options.items() if is_template(value)}
    if not expanded:
        return model
    dated = {} if model.cutoff or model.published else {"published": vintage - DAY}
    return model.model_copy(update={"options": {**model.options, **expanded}, **dated})


def months_after(day: date, months: int) -> date:
    """The same day some months later, or the last day of that month."""
    number = day.year * 12 + day.month - 1 + months
    year, month = number // 12, number % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def _months_between(first: date, last: date) -> int:
    return (last.year - first.year) * 12 + last.month - first.month
