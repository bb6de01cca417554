"""`candlecast inspect` and `candlecast init`: what is understood of files, and the settings that read them right."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from orchestration.cli.app import app
from orchestration.cli.doctor import diagnose
from resources.calendar import TradingCalendar
from resources.profiles import load_settings
from tests.market.market_desk import make_desk_in

OHLC = "open,high,low,close"


def call(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    return done.exit_code, done.output


def inspected(*arguments: str | Path) -> dict[str, Any]:
    _, output = call("inspect", *arguments, "--json")
    values: dict[str, Any] = json.loads(output)
    return values


def prices(count: int, seed: int = 1) -> pd.DataFrame:
    closes = np.round(50 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.004, count))), 2)
    opens = np.r_[50.0, closes[:-1]]
    high, low = np.maximum(opens, closes) + 0.02, np.minimum(opens, closes) - 0.02
    return pd.DataFrame({"open": opens, "high": high, "low": low, "close": closes})


def grid(calendar: str, frequency: str, first: str, last: str) -> pd.DataFrame:
    days = pd.Timestamp(first).date(), pd.Timestamp(last).date()
    found = TradingCalendar(calendar, frequency).grid(*days)
    return found[found["session"].between(first, last)].reset_index(drop=True)


@pytest.fixture
def tse_bars(tmp_path: Path) -> Path:
    """Hourly bars of Tokyo, stamped at their end in local time, with a lunch break and a volume in lots."""
    bars = grid("XTKS", "30min", "2023-03-06", "2023-03-17")
    table = prices(len(bars))
    stamps = (bars["closes_at"] + pd.Timedelta(hours=9)).dt.strftime("%Y-%m-%d %H:%M")
    table.insert(0, "datetime", stamps)
    table.assign(note="x").to_csv(tmp_path / "7203_30m.csv", index=False)
    return tmp_path / "7203_30m.csv"


def test_the_printed_settings_read_the_file_without_a_loss(tse_bars: Path) -> None:
    status, text = call("inspect", tse_bars)
    assert status == 1
    assert all(part in text for part in ("note", "ignored", "7203_30m.csv", "2023-03-06 00:00 UTC"))
    market = tomllib.loads(text[text.index("[profiles.mine.market]") :])["profiles"]["mine"]["market"]
    assert (market["calendar"], market["frequency"], market["stamp"]) == ("XTKS", "30min", "end")
    desk = make_desk_in(tse_bars.parent / "desk", calendar="XTKS", frequency="30min", stamp=market["stamp"])
    done = desk.ingest_text(tse_bars.read_text(), tse_bars.name)
    assert (done.received, done.rejected) == (done.kept, 0)


def test_a_zone_that_is_not_the_exchange_s_is_found(tmp_path: Path) -> None:
    bars = grid("XNYS", "1h", "2023-03-06", "2023-03-24")
    prices(len(bars)).assign(time=bars["ts"]).to_csv(tmp_path / "ABC.csv", index=False)
    found = inspected(tmp_path / "ABC.csv")
    assert not found["ok"]
    assert found["market"]["timezone"] == "UTC"
    assert (found["market"]["calendar"], found["files"][0]["accepted"]) == ("XNYS", len(bars))


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        (
            f"Date,{OHLC},Stock Splits\n2022-06-03,122,124,121,122.5,0\n2022-06-06,125,128,123,124.8,20\n",
            {"adjusted": "splits"},
            ("Stock Splits", "20"),
        ),
        (
            f"date,paper,{OHLC}\n" + "".join(f"2012-01-0{day},X{n},{n},11,1,{n}\n" for day in (3, 4) for n in (5, 6)),
            {"columns": {"symbol": "paper"}},
            ("paper",),
        ),
        (f"time,{OHLC}\n20230103,1871500,1884400,1838900,1856400\n", {"scale": {"price": 1e-4}}, ("scale.price",)),
    ],
)
def test_findings_become_settings(tmp_path: Path, text: str, settings: dict[str, Any], words: tuple[str, ...]) -> None:
    (tmp_path / "ABC.csv").write_text(text)
    found = inspected(tmp_path / "ABC.csv", "--calendar", "XNYS", "--frequency", "1d")
    assert all(word in str(found["files"][0]["problems"]) for word in words)
    assert settings.items() <= found["market"].items()
    profile = tmp_path / "candlecast.toml"
    profile.write_text(found["toml"])
    assert call("inspect", tmp_path / "ABC.csv", "--settings", profile, "--profile", "mine")[0] == 0


def test_rejected_rows_are_shown_with_rule_column_and_row(tmp_path: Path) -> None:
    (tmp_path / "ABC.csv").write_text(f"date,{OHLC},Vol.\n2012-01-03,10,11,9,10.5,5\n2012-01-04,10,11,9,10.5,six\n")
    status, text = call("inspect", tmp_path / "ABC.csv")
    assert status == 1
    assert all(part in text for part in ("1 not_a_number", "row 2, column 'Vol.', 'six'", "market.max_rejected"))


def test_a_file_that_cannot_be_read_shows_its_columns(tmp_path: Path) -> None:
    (tmp_path / "ABC.csv").write_text("when,first,most,least,final\n2012-01-03,10,11,9,10.5\n")
    status, text = call("inspect", tmp_path / "ABC.csv")
    assert status == 1
    assert all(part in text for part in ("final", "10.5", "market.columns"))
    assert call("inspect", tmp_path / "none.csv")[0] == 1


def test_an_error_of_the_ingest_names_the_command(tmp_path: Path) -> None:
    desk = make_desk_in(tmp_path)
    with pytest.raises(Exception, match=r"`candlecast inspect bars\.csv`"):
        desk.ingest_text("when,first,most,least,final\n2012-01-03,10,11,9,10.5\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two years of daily bars of two symbols, the closes under a name of their own."""
    days = grid("XNYS", "1d", "2017-01-03", "2019-06-28")["ts"]
    (tmp_path / "bars").mkdir()
    for seed, symbol in enumerate(("AAA", "BBB")):
        table = prices(len(days), seed).rename(columns={"close": "closing level"})
        table.assign(date=days.dt.date).to_csv(tmp_path / "bars" / f"{symbol}.csv", index=False)
    return tmp_path / "bars"


def test_init_writes_a_profile_that_loads_and_that_the_doctor_accepts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    status, text = call("init", "bars", "--name", "two")
    assert status == 0
    assert "candlecast run --settings candlecast.toml --profile two" in text
    settings = load_settings(folder.parent / "candlecast.toml", "two", folder.parent / "home")
    assert (settings.market.path, settings.market.calendar, settings.backtest.topk) == ("bars/*.csv", "XNYS", 1)
    assert str(settings.windows.train[0]) == "2017-01-03"
    assert str(settings.windows.test[1]) == "2019-06-28"
    assert all(check.ok for check in diagnose(settings) if check.check in ("home", "warehouse", "calendar"))


def test_init_overwrites_nothing(folder: Path) -> None:
    file = folder.parent / "mine.toml"
    file.write_text("# kept\n[profiles.mine.market]\nsource = 'sample'\n")
    status, text = call("init", folder, "--settings", file)
    assert status == 1
    assert "'mine'" in text
    assert call("init", folder, "--settings", file, "--name", "other")[0] == 0
    assert file.read_text().startswith("# kept\n[profiles.mine.market]\nsource = 'sample'\n")
    assert {"mine", "other"} == set(tomllib.loads(file.read_text())["profiles"])


def test_init_refuses_too_few_bars(tmp_path: Path) -> None:
    (tmp_path / "ABC.csv").write_text(f"date,{OHLC}\n2012-01-03,10,11,9,10.5\n2012-01-04,10,11,9,10.5\n")
    status, text = call("init", tmp_path, "--settings", tmp_path / "new.toml")
    assert status == 1
    assert "2 sessions" in text
    assert not (tmp_path / "new.toml").exists()
