"""Prices that are a power of ten away from those of the same symbol elsewhere are warned of by the setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from assets.market.ingest.file_warnings import file_warnings
from resources.errors import CandlecastError
from tests.market.market_desk import Desk


def text_of(first: int, *closes: float) -> str:
    days = [f"2012-01-{day:02d}" for day in (3, 4, 5, 6, 9, 10, 11, 12)][first:]
    rows = [f"KO,{day},{c},{c},{c},{c}" for day, c in zip(days, closes, strict=False)]
    return "\n".join(["symbol,date,open,high,low,close", *rows, ""])


def warnings_of(desk: Desk) -> str:
    return "\n".join(file_warnings(desk.lake, desk.source))


@pytest.mark.parametrize("factor", [10, 100, 1_000, 0.01])
def test_a_file_in_another_unit_is_warned_of(desk: Desk, factor: float) -> None:
    desk.ingest_text(text_of(0, 30, 31, 30.5, 31.2), "dollars.csv")
    assert warnings_of(desk) == ""
    desk.ingest_text(text_of(4, *(round(c * factor, 4) for c in (31.0, 31.4))), "other.csv")
    text = warnings_of(desk)
    assert all(part in text for part in ("other.csv", "KO", "dollars.csv", f"market.scale.price = {1 / factor:g}"))


def test_two_new_files_of_different_units_are_warned_of(desk: Desk) -> None:
    desk.write("a.csv", text_of(0, 30, 31))
    desk.write("b.csv", text_of(2, 3050, 3120))
    desk.ingest()
    assert "a.csv" in warnings_of(desk)
    assert "b.csv" in warnings_of(desk)


def test_prices_of_the_same_unit_are_not_warned_of(desk: Desk) -> None:
    desk.ingest_text(text_of(0, 30, 31, 30.5, 31.2), "a.csv")
    desk.ingest_text(text_of(4, 22.0, 40.0), "b.csv")
    assert warnings_of(desk) == ""


def test_the_setting_ends_the_warning(desk: Desk) -> None:
    desk.ingest_text(text_of(0, 30, 31, 30.5, 31.2), "a.csv")
    desk.ingest_text(text_of(4, 3100, 3140), "b.csv")
    assert "b.csv" in warnings_of(desk)
    (desk.folder / "a.csv").unlink()
    scaled = replace(desk, reading=replace(desk.reading, scale={"price": 0.01}))
    scaled.ingest()
    assert "b.csv" not in warnings_of(scaled)


@pytest.mark.parametrize(
    ("symbol", "price", "scale"),
    [
        ("ESM4", 5_130_250_000_000, "1e-9"),
        ("MSFT", 4_041_200, "1e-4"),
        ("ETH_KRW", 4_712_000, ""),
        ("KRW-SOL", 212_300, ""),
    ],
)
def test_whole_prices_suggest_their_unit_unless_the_currency_explains_them(
    make_desk: Callable[..., Desk], symbol: str, price: int, scale: str
) -> None:
    rows = [f"{symbol},2012-01-{day:02d},{price},{price},{price},{price}" for day in (3, 4, 5)]
    desk = make_desk(calendar="24/7")
    text = "\n".join(["symbol,date,open,high,low,close", *rows, ""])
    if scale:
        with pytest.raises(CandlecastError, match=f"market.scale.price = {scale}"):
            desk.ingest_text(text)
        return
    desk.ingest_text(text)
    assert desk.bars()["close"].tolist() == [price] * 3


def test_units_of_amount_and_volume_are_warned_of(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    desk.ingest_text("date,open,high,low,close,volume,amount\n2012-01-03,10,11,9,10.5,20,21000\n", "KO.csv")
    assert "volume = 100" in warnings_of(desk)
