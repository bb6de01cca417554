"""What is asked for again by range: which differences are news, and what a corrected calendar takes away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.market.ingest.ingest import Ingested, ingest
from assets.market.ingest.landing import land
from resources.sources.protocol import Reading, Request, Wanted
from resources.sources.ranges import plan_ranges, write_payload
from tests.market.market_desk import Desk
from tests.market.test_market_revisions import assert_rebuilds

DAYS = ("2012-01-03", "2012-01-04", "2012-01-05")
COLUMNS = ("date", "open", "high", "low", "close", "volume", "dividend", "split")


@dataclass(frozen=True)
class Ranges:
    """A provider that answers every request with the same rows."""

    rows: tuple[tuple[object, ...], ...]
    reading: Reading
    name: str = "provider"
    by_range: bool = True

    def plan(self, wanted: Wanted) -> list[Request]:
        return plan_ranges(self.name, wanted, {wanted.frequency: wanted.frequency})

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        return []

    def fingerprint(self, request: Request) -> str | None:
        return None

    def reaches(self, payload: Path) -> date | None:
        return date(2012, 1, 31)

    def fetch(self, request: Request, into: Path) -> str:
        return write_payload(pd.DataFrame(self.rows, columns=list(COLUMNS)), into)


def ask(desk: Desk, rows: Sequence[tuple[object, ...]], **reading: object) -> Ingested:
    source = Ranges(tuple(rows), replace(desk.reading, **reading))  # type: ignore[arg-type]
    wanted = Wanted(("ACME",), date(2012, 1, 3), date(2012, 1, 31), desk.reading.frequency)
    land(desk.lake, desk.warehouse, source, wanted, refresh=True)
    return ingest(desk.lake, desk.warehouse)


def quoted(shares: float, closes: Sequence[float], dividend: float = 0.1) -> list[tuple[object, ...]]:
    """Rows as a provider gives them once a later split made `shares` of one: divided by it, in single precision."""

    def ohlc(close: float) -> list[float]:
        return [float(np.float32(price / shares)) for price in (close, close + 1, close - 1, close)]

    actions = (1000 * shares, round(dividend / shares, 6), 1)
    return [(day, *ohlc(close), *actions) for day, close in zip(DAYS, closes, strict=True)]


def test_a_split_does_not_revise_the_bars_before_it_by_their_last_digits(desk: Desk) -> None:
    closes = [10.01, 10.37, 10.53]
    ask(desk, quoted(1, closes), basis="split-adjusted")
    before = desk.bars()
    split = ("2012-01-06", 3.5, 4, 3, 3.5, 3000, 0, 3)
    done = ask(desk, [*quoted(3, closes), split], basis="split-adjusted")
    assert (done.kept, done.folded, done.sessions) == (1, 3, (date(2012, 1, 6),))
    pd.testing.assert_frame_equal(desk.bars()[:3], before)
    # A cent is news.
    done = ask(desk, [*quoted(3, [10.01, 10.38, 10.53]), split], basis="split-adjusted")
    assert done.sessions == (date(2012, 1, 4),)
    assert desk.bars()["close"][1] == pytest.approx(10.38)
    assert_rebuilds(desk)


def test_a_price_as_quoted_is_compared_to_its_last_digit(desk: Desk) -> None:
    row = ("2012-01-03", 10_000_000, 20_000_000, 5_000_000, 10_000_000.01, 1000, 0, 1)
    ask(desk, [row])
    assert ask(desk, [(*row[:4], 10_000_000.02, *row[5:])]).kept == 1


def test_a_bar_that_only_a_mistaken_calendar_has_goes_when_its_range_is_asked_again(desk: Desk) -> None:
    # The 16th was a holiday in New York, and none in London.
    rows = [(day, 10, 11, 9, 10, 1000, 0, 1) for day in ("2012-01-03", "2012-01-16")]
    ask(desk, rows, calendar="XLON")
    assert len(desk.bars()) == 2
    ask(desk, rows[:1])
    # Not that it is missing: a provider leaves rows out now and then.
    assert len(desk.bars()) == 2
    assert ask(desk, rows).sessions == (date(2012, 1, 16),)
    assert len(desk.bars()) == 1
    assert_rebuilds(desk)
