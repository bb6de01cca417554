"""Vintages: their dates and ranges, and that nothing after the date of one has an influence on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assets.market.gaps import GapFill
from assets.market.history import BarHistory
from assets.training.data.windows import build_windows
from assets.training.prerequisites import weight_problems
from resources.errors import CandlecastError
from resources.settings import Chronos2Settings, MarketSettings, Settings, TokenizerSettings, WindowSettings
from resources.settings_training import PACKAGED_INPUTS
from resources.vintages import MONTHS, at_vintage, months_after, vintage_of, vintages_until
from tests.training.training_setup import WINDOWS, all_histories, filled_home

FIRST = date(2004, 1, 1)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BarHistory]:
    _, warehouse = filled_home(tmp_path_factory.mktemp("windows"))
    return all_histories(warehouse)


def windows_with(**changes: Any) -> WindowSettings:
    return WindowSettings(**{**WINDOWS.model_dump(), **changes})


def histories_at(real: dict[str, BarHistory], settings: Settings, vintage: date) -> dict[str, BarHistory]:
    """What a vintage is trained on: bars before it, with its gaps filled."""
    own = at_vintage(settings, vintage)
    return {name: GapFill.of(own).apply(one.until(own.windows.cutoff)) for name, one in real.items()}


@given(st.sampled_from(["year", "quarter", "month"]), st.integers(0, 3000), st.none() | st.integers(1, 5))
def test_a_session_has_the_newest_vintage_before_it_whose_ranges_end_before_it(
    every: str, days: int, years: int | None
) -> None:
    settings = Settings(windows=windows_with(vintage=every, vintage_train_years=years))
    session = FIRST + timedelta(days=days)
    vintage = vintage_of(settings.windows, session)
    assert vintage is not None and vintage <= session < months_after(vintage, MONTHS[every])
    own = at_vintage(settings, vintage).windows
    assert own.cutoff == vintage - timedelta(days=1) and own.train[1] < own.validation[0]
    assert own.train[0] == WINDOWS.train[0] if years is None else (own.train[1] - own.train[0]).days <= 366 * years
    # The checks of a settings file accept the ranges: a training process reads them from JSON.
    assert WindowSettings(**own.model_dump()) == own


def test_the_first_vintage_has_the_ranges_of_the_settings() -> None:
    settings = Settings(windows=windows_with(vintage="year"))
    assert list(vintages_until(settings.windows, date(2006, 1, 1))) == [FIRST, date(2005, 1, 1), date(2006, 1, 1)]
    own = at_vintage(settings, FIRST).windows
    assert (own.train, own.validation) == (WINDOWS.train, WINDOWS.validation)
    with pytest.raises(CandlecastError, match=r"2003-12-31.*2004-01-01"):
        vintage_of(settings.windows, date(2003, 12, 31))
    assert vintage_of(WINDOWS, date(2003, 12, 31)) is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"vintage": "year", "validation": (date(2003, 1, 1), date(2003, 10, 31))}, "2002-12-31"),
        ({"vintage": "quarter", "validation": (date(2003, 1, 1), date(2003, 10, 31))}, "2003-09-30"),
        ({"vintage": "month", "validation": (date(2003, 1, 1), date(2003, 10, 30))}, "2003-09-30"),
        ({"vintage_train_years": 3}, "vintage_train_years"),
    ],
)
def test_a_first_vintage_within_a_period_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError, match=key):
        windows_with(**changes)


@pytest.mark.parametrize("fill", ["none", "interpolate"])
def test_bars_after_a_vintage_change_nothing_that_it_is_trained_on(real: dict[str, BarHistory], fill: str) -> None:
    settings = Settings(windows=windows_with(vintage="year", fill=fill))
    ibm, vintage = real["IBM"], date(2005, 1, 1)
    # The last bars before the vintage are missing: what fills a gap lies between two bars.
    gap = slice(
        int(np.searchsorted(ibm.days, np.datetime64(vintage))) - 3,
        int(np.searchsorted(ibm.days, np.datetime64(vintage))),
    )
    holed = {**real, "IBM": ibm.rows(slice(0, gap.start))}
    later = ibm.rows(slice(gap.stop, None))
    joined = BarHistory(
        "IBM",
        *(np.concatenate([getattr(one, part) for one in (holed["IBM"], later)]) for part in PARTS),
    )
    doubled = {**holed, "IBM": replace(joined, quoted=np.r_[holed["IBM"].quoted, 2 * later.quoted])}
    digests = set()
    for known in (holed, {**holed, "IBM": joined}, doubled):
        windows = build_windows(
            histories_at(known, settings, vintage), at_vintage(settings, vintage).windows, needs_origins=False
        )
        digests.add(windows.digest)
        assert windows.manifest["cutoff"] == "2004-12-31" and windows.arrays["stamps"].max() < np.datetime64(vintage)
    assert len(digests) == 1


PARTS = ("stamps", "quoted", "growth", "shares", "days")


def test_names_of_weights_by_year_are_those_of_the_last_year_before_the_vintage(tmp_path: Path) -> None:
    named = TokenizerSettings(base="weights/tokenizer_{year}")
    market = MarketSettings(end=date(2005, 6, 30))
    with pytest.raises(ValidationError, match=r"tokenizer\.base.*windows\.vintage"):
        Settings(tokenizer=named, market=market, windows=WINDOWS)
    settings = Settings(tokenizer=named, market=market, windows=windows_with(vintage="year"), root=tmp_path)
    own = at_vintage(settings, date(2005, 1, 1))
    assert (own.tokenizer.base, own.tokenizer.published) == ("weights/tokenizer_2004", date(2004, 12, 31))
    assert own.predictor == settings.predictor
    for year, text in zip((2003, 2004), weight_problems(settings), strict=True):
        assert f"tokenizer_{year}" in text and f"{year + 1}-01-01" in text


def test_base_weights_that_were_trained_after_a_vintage_are_refused() -> None:
    settings = Settings(
        chronos2=Chronos2Settings(base="packaged", **PACKAGED_INPUTS), windows=windows_with(vintage="year")
    )
    (problem,) = weight_problems(settings)
    assert problem.startswith("chronos2.base") and "2010-12-31" in problem and "2004-01-01" in problem
