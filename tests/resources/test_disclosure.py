"""Secrets and folders of this machine stay out of reports, messages and names of files."""

from datetime import date
from pathlib import Path

import duckdb
import pytest

from resources.disclosure import conceal, public_settings
from resources.errors import CandlecastError, SettingsError
from resources.profiles import load_settings
from resources.settings import MarketSettings, Settings
from resources.sources.files import FilesSource
from resources.sources.protocol import Reading, Wanted
from resources.warehouse import Warehouse

LOCATION = "postgres:host=db user=desk password=Tr0ub4dor dbname=bars"
PASSWORD = "Tr0ub4dor"
WANTED = Wanted(None, date(2012, 1, 1), date(2012, 1, 31), "1d")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a settings file that names a file of secrets."""
    (tmp_path / "candlecast.toml").write_text('[profiles.sample]\nsecrets = "secrets.toml"\n')
    (tmp_path / "secrets.toml").write_text(f'warehouse = "{LOCATION}"\n')
    return tmp_path


def test_a_secret_comes_from_the_file_of_secrets_and_the_environment_overrides_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(project / "candlecast.toml")
    assert Warehouse.of(settings).uri == LOCATION
    assert PASSWORD not in repr(settings) + settings.model_dump_json()
    monkeypatch.setenv("CANDLECAST__WAREHOUSE", "md:bars")
    assert Warehouse.of(load_settings(project / "candlecast.toml")).uri == "md:bars"


def test_the_file_of_secrets_may_be_named_by_the_environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "mounted.toml").write_text('warehouse = "md:mounted"\n')
    monkeypatch.setenv("CANDLECAST__SECRETS", str(project / "mounted.toml"))
    assert Warehouse.of(load_settings(project / "candlecast.toml")).uri == "md:mounted"


@pytest.mark.parametrize(
    ("content", "named"),
    [(f'warehouse = "{PASSWORD}"\nseed = 1\n', "seed"), (f"warehouse = ['{PASSWORD}']", "warehouse")],
)
def test_a_wrong_file_of_secrets_is_named_without_its_values(project: Path, content: str, named: str) -> None:
    (project / "secrets.toml").write_text(content)
    with pytest.raises(SettingsError, match=named) as error:
        load_settings(project / "candlecast.toml")
    assert PASSWORD not in str(error.value)


def test_a_missing_file_of_secrets_is_named(project: Path) -> None:
    (project / "secrets.toml").unlink()
    with pytest.raises(SettingsError, match=r"secrets\.toml"):
        load_settings(project / "candlecast.toml")


def test_public_settings_have_no_secret_and_no_folder_of_this_machine(tmp_path: Path) -> None:
    root, clients = tmp_path / "project", tmp_path / "clients" / "acme"
    settings = Settings(
        root=root,
        warehouse=LOCATION,
        secrets=str(root / "secrets.toml"),
        market=MarketSettings(
            source="files", path=str(clients / "*.parquet"), drop=str(root / "drop"), members=str(clients / "m.csv")
        ),
    )
    shown = public_settings(settings)
    assert str(tmp_path) not in str(shown) and PASSWORD not in str(shown) and "acme" not in str(shown)
    assert (shown["market"]["path"], shown["market"]["drop"], shown["market"]["members"]) == (
        "*.parquet", "drop", "m.csv",
    )  # fmt: skip
    assert shown["warehouse"] == "postgres:…"
    assert public_settings(Settings(root=root, warehouse=str(clients / "w.duckdb")))["warehouse"] == "w.duckdb"


@pytest.mark.parametrize(
    "location",
    [
        LOCATION,
        f"md:bars?motherduck_token={PASSWORD}",
        f"ducklake:postgres://desk:{PASSWORD}@db/bars",
        f"duckdb:/srv/bars secret='{PASSWORD}'.duckdb",
    ],
)
def test_a_message_is_concealed_in_whole_and_in_parts(location: str) -> None:
    assert PASSWORD not in conceal(f"cannot open {location}; cannot open {location.partition(':')[2]}", location)
    assert PASSWORD not in conceal(f"ATTACH '{location.replace(chr(39), chr(39) * 2)}'", location)
    assert PASSWORD not in conceal(f"…={PASSWORD} is wrong", location)


@pytest.mark.parametrize("action", ["read", "write"])
def test_an_error_of_duckdb_names_no_password(tmp_path: Path, action: str) -> None:
    long = "x" * 200
    warehouse = Warehouse(f"duckdb:{tmp_path}/{long}/no folder password={PASSWORD}", wait=0)
    with pytest.raises(duckdb.Error) as error, getattr(warehouse, action)():
        pass
    assert PASSWORD not in str(error.value) and str(tmp_path) not in str(error.value)


def test_files_elsewhere_are_named_below_the_fixed_folders_of_the_glob(tmp_path: Path) -> None:
    elsewhere = tmp_path / "clients" / "acme"
    for year in ("2011", "2012"):
        (elsewhere / year).mkdir(parents=True)
        (elsewhere / year / "bars.csv").write_text("symbol,date\n")
    source = FilesSource(str(elsewhere / "*" / "bars.csv"), tmp_path / "project", Reading("XNYS", "1d"))
    requests = source.plan(WANTED)
    assert [request.file for request in requests] == ["2011/bars.csv", "2012/bars.csv"]
    assert len({source.fingerprint(request) for request in requests}) == 1 and not source.vanished(requests)
    single = FilesSource(str(elsewhere / "2011" / "bars.csv"), tmp_path / "project", Reading("XNYS", "1d"))
    assert [request.file for request in single.plan(WANTED)] == ["bars.csv"]
    none = FilesSource(str(elsewhere / "*.txt"), tmp_path / "project", Reading("XNYS", "1d"))
    with pytest.raises(CandlecastError, match=r"market\.path") as error:
        none.plan(WANTED)
    assert "acme" not in str(error.value)
