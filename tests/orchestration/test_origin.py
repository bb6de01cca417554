"""What is asked of a chain before anything runs, and what one origin's forecasts say."""

import re
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest
from chain_world import SMALL, World

from orchestration.cli.chain import Chain
from orchestration.cli.forecast_origin import Origin
from orchestration.cli.terminal import Terminal
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.profiles import load_settings
from resources.settings import Settings
from resources.warehouse import Warehouse

CALENDAR = TradingCalendar("XNYS")
SESSION = date(2010, 12, 31)
SESSIONS = CALENDAR.sessions(date(2010, 11, 1), date(2011, 3, 1))


def _settings(folder: Path, text: str = SMALL) -> Settings:
    (folder / "candlecast.toml").write_text(text)
    return load_settings(folder / "candlecast.toml", "sample", folder / "home")


def _store(warehouse: Warehouse, table: str, rows: pd.DataFrame) -> None:
    with warehouse.write() as connection:
        connection.register("rows", rows)
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM rows")


def _bars(symbol: str, sessions: pd.DatetimeIndex = SESSIONS) -> pd.DataFrame:
    return pd.DataFrame({"symbol": symbol, "ts": sessions, "session": sessions}).assign(
        **dict.fromkeys(("open", "high", "low", "close"), 10.0),
        frequency="1d",
        flags=[[] for _ in sessions],
        source="sample",
        payload_sha256="0" * 64,
        available_at=pd.Timestamp("2013-03-02"),
        batch=1,
    )


def _quantiles(checkpoint: str, value: float, origin: str = "2010-12-31") -> pd.DataFrame:
    rows = [(step, level, value + level) for step in (1, 4) for level in (0.05, 0.5, 0.95)]
    return pd.DataFrame(rows, columns=["step", "level", "value"]).assign(
        model="kronos",
        checkpoint=checkpoint,
        symbol="IBM",
        origin=pd.Timestamp(origin),
        made_at=pd.Timestamp("2013-03-02"),
        target_ts=pd.Timestamp("2011-01-03"),
        field="close",
        in_sample=False,
    )


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """A chain whose jobs are only written down, with bars beyond market.end and of a symbol that nobody asked for."""
    chain = Chain(_settings(tmp_path), Terminal(quiet=True))
    chain.runs = []  # type: ignore[attr-defined]
    monkeypatch.setattr(chain.headless, "run", lambda *given: chain.runs.append(given))  # type: ignore[attr-defined]
    monkeypatch.setattr(chain, "_ingest", lambda: None)
    for bars in (
        _bars("IBM"),
        _bars("AAPL", SESSIONS[:40]),
        _bars("OTHER"),
        _bars("MSFT", SESSIONS[SESSIONS < "2010"]),
    ):
        _store(chain.warehouse, "bars", bars)
    return chain


def test_only_the_checkpoint_in_use_is_shown_and_by_name(tmp_path: Path):
    settings = _settings(tmp_path)
    warehouse = Warehouse.of(settings)
    for rows in (_quantiles("old", 100.0), _quantiles("new", 200.0), _quantiles("new", 1.0, "2010-12-31 16:30")):
        _store(warehouse, "forecast_quantiles", rows)
    origin = Origin.of(SESSION, [], settings, CALENDAR)
    shown = origin.quantiles(warehouse, {"kronos": "new"}, 4)
    assert list(shown["checkpoint"]) == ["new", "new"]
    assert list(shown["0.5"]) == [200.5, 200.5]
    _store(warehouse, "forecast_quantiles", _quantiles("new", 300.0))
    with pytest.raises(ValueError, match="duplicate"):
        origin.quantiles(warehouse, {"kronos": "new"}, 4)


def test_it_forecasts_from_the_newest_session_that_the_settings_want(chain: Chain):
    chain.forecast(None, [])
    ((_, span, *_),) = chain.runs  # type: ignore[attr-defined]
    assert (span.first, span.last) == (SESSION, SESSION)


def test_symbols_are_taken_in_any_case_and_as_the_warehouse_writes_them(chain: Chain):
    chain.forecast(SESSION, ["ibm", " IBM"])
    assert chain.runs[0][3]["kronos_forecasts"] == {"symbols": ["IBM"]}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("origin", "symbols", "told"),
    [
        (SESSION, ["OTHER"], "market.symbols does not name OTHER; it names AAPL, IBM, MSFT"),
        (SESSION, ["MSFT"], "no bar of MSFT on 2010-12-31; there are: IBM"),
        (date(2010, 11, 10), [], "wants 32 bars up to it, there are 8 at most"),
        (date(2009, 12, 31), [], "no bar of any symbol on 2009-12-31"),
        (date(2010, 12, 25), [], "no session of XNYS in 2010-12-25"),
        (date(2030, 1, 2), [], "no session of XNYS in 2030-01-02"),
    ],
)
def test_what_cannot_be_forecast_is_refused_before_anything_runs(chain: Chain, origin, symbols, told):
    with pytest.raises(CandlecastError, match=re.escape(told)):
        chain.forecast(origin, symbols)
    assert chain.runs == []  # type: ignore[attr-defined]


def test_the_future_is_refused_with_the_last_session_that_there_can_be(tmp_path: Path):
    text = SMALL.replace("end = 2010-12-31\n", "end = 2099-12-31\n", 1)
    chain = Chain(_settings(tmp_path, text), Terminal(quiet=True))
    yesterday = date.today() - timedelta(days=1)
    possible = CALENDAR.sessions(yesterday - timedelta(days=10), yesterday)[-1].date()
    with pytest.raises(CandlecastError, match=f"is not over yet; the last that there can be is {possible}"):
        chain.backfill(date(2010, 1, 4), date.today() + timedelta(days=30), "group:market")


def test_a_backfill_of_one_market_asset_makes_first_what_it_is_made_from(chain: Chain):
    chain.backfill(date(2010, 12, 1), SESSION, "bars")
    assert [selection for selection, *_ in chain.runs] == ['key:"bars" or key:"raw_bars"']  # type: ignore[attr-defined]


@pytest.mark.slow
def test_bars_can_be_backfilled_alone_in_a_fresh_home(tmp_path: Path):
    world = World(tmp_path)
    done = world.call("backfill", "--from", "2010-12-01", "--to", "2010-12-31", "--assets", "bars")
    assert done.returncode == 0, done.stderr
    assert world.rows("SELECT count(*) AS n FROM bars WHERE session = '2010-12-31' AND symbol = 'IBM'") == [{"n": 1}]
