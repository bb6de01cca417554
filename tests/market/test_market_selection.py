"""Models read the bars of the profile's own source, whatever else its home holds."""

from datetime import date

import pytest

from assets.forecasting.filters import ForecastFilter
from assets.market.history import CLOSE, read_histories, stored_histories
from assets.market.selection import bars_of_other_sources, own_symbols, source_filter
from assets.market.universe import read_universe
from resources.settings import MarketSettings, Settings
from tests.market.market_desk import HEADER, Desk

DAYS = ("2012-01-03", "2012-01-04", "2012-01-05")


def _settings(desk: Desk, **market: object) -> Settings:
    values = {"source": "files", "path": "*", "start": date(2012, 1, 3), "end": date(2012, 12, 31), **market}
    return Settings(market=MarketSettings.model_validate(values), root=desk.folder.parent, home=desk.home.root)


@pytest.fixture
def mixed(desk: Desk) -> Desk:
    """Bars of OWN and BOTH in two files; those of FOREIGN, and the current ones of BOTH, are of the source `sample`."""
    for file, symbols in (("one.csv", ("OWN", "BOTH", "FOREIGN")), ("two.csv", ("BOTH",))):
        rows = [f"{symbol},{day},10,11,9,10,5" for symbol in symbols for day in DAYS]
        desk.ingest_text("\n".join([HEADER, *rows]) + "\n", file)
    with desk.warehouse.write() as connection:
        connection.execute("UPDATE bars SET source = 'sample' WHERE symbol IN ('BOTH', 'FOREIGN')")
        connection.execute("UPDATE bar_versions SET source = 'sample' WHERE request LIKE '%one.csv'")
    return desk


def test_bars_of_another_source_are_read_by_no_model_and_counted(mixed: Desk) -> None:
    settings, warehouse = _settings(mixed), mixed.warehouse
    sources = source_filter(settings, warehouse)
    assert sources == ["files"]
    assert list(read_histories(warehouse, "1d", sources=sources)) == ["BOTH", "OWN"]
    assert sorted(read_universe(settings, warehouse).memberships) == ["BOTH", "OWN"]
    assert own_symbols(settings, warehouse) == ["BOTH", "OWN"]
    assert ForecastFilter.of(settings, warehouse).symbols == ["BOTH", "OWN"]
    assert bars_of_other_sources(settings, warehouse) == {"sample": len(DAYS)}


def test_bars_are_read_once_until_one_is_corrected(mixed: Desk) -> None:
    settings = _settings(mixed)
    first = stored_histories(settings)
    assert stored_histories(settings) is first
    with mixed.warehouse.write() as connection:
        connection.execute("UPDATE bars SET close = 9.5 WHERE symbol = 'OWN' AND session = DATE '2012-01-04'")
    assert stored_histories(settings)["OWN"].quoted[:, CLOSE].tolist() == [10, 9.5, 10]
    assert list(stored_histories(_settings(mixed, symbols=("OWN",)))) == ["OWN"]


def test_the_files_of_a_drop_folder_belong_to_the_profile(mixed: Desk) -> None:
    settings = _settings(mixed, source="sample", path=None, drop="incoming")
    assert source_filter(settings, mixed.warehouse) is None
    assert own_symbols(settings, mixed.warehouse) is None
    assert bars_of_other_sources(settings, mixed.warehouse) == {}
