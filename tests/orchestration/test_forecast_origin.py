"""The origin of a forecast and the sessions of a backfill, checked before anything runs."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestration.cli.forecast_origin import ForecastOrigin
from orchestration.cli.pipeline import Pipeline
from orchestration.cli.terminal import Terminal
from orchestration.jobs import SELECTIONS
from orchestration.staleness.plan import Staleness
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.integrity import publish_kept_json
from resources.profiles import load_settings
from resources.settings import Settings
from resources.warehouse import Warehouse
from tests.orchestration.cli_project import SMALL, CliProject

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
        flags=pd.Series([[]] * len(sessions), dtype=object),
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


class RecordingPipeline(Pipeline):
    """A pipeline with the arguments of its runs."""

    def __init__(self, settings: Settings, terminal: Terminal) -> None:
        super().__init__(settings, terminal)
        self.runs: list[tuple[Any, ...]] = []


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordingPipeline:
    """A pipeline that records its runs, with bars after market.end and of a symbol outside market.symbols."""
    pipeline = RecordingPipeline(_settings(tmp_path), Terminal(quiet=True))
    monkeypatch.setattr(pipeline.runner, "run", lambda *given: pipeline.runs.append(given))
    monkeypatch.setattr(pipeline, "_ingest", lambda: None)
    for bars in (
        _bars("IBM"),
        _bars("AAPL", SESSIONS[:40]),
        _bars("OTHER"),
        _bars("MSFT", SESSIONS[pd.Timestamp("2010-01-01") > SESSIONS]),
    ):
        _store(pipeline.warehouse, "bars", bars)
    return pipeline


def test_only_forecasts_of_the_checkpoint_in_use_are_shown(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    warehouse = Warehouse.of(settings)
    for rows in (_quantiles("old", 100.0), _quantiles("new", 200.0), _quantiles("new", 1.0, "2010-12-31 16:30")):
        _store(warehouse, "forecast_quantiles", rows)
    origin = ForecastOrigin.of(SESSION, [], settings, CALENDAR)
    shown = origin.quantiles(warehouse, {"kronos": "new"}, fields=["close"], steps=[1, 4])
    assert list(shown["checkpoint"]) == ["new", "new"]
    assert list(shown["0.5"]) == [200.5, 200.5]
    _store(warehouse, "forecast_quantiles", _quantiles("new", 300.0))
    with pytest.raises(ValueError, match="duplicate"):
        origin.quantiles(warehouse, {"kronos": "new"})


def test_forecast_without_origin_uses_the_newest_session_up_to_market_end(pipeline: RecordingPipeline) -> None:
    pipeline.forecast(None, [])
    ((_, sessions, *_),) = pipeline.runs
    assert (sessions.first, sessions.last) == (SESSION, SESSION)


def test_training_that_is_up_to_date_is_left_out_of_a_forecast_but_for_the_age_of_its_models(
    pipeline: RecordingPipeline,
) -> None:
    graph = pipeline.runner.defs.resolve_asset_graph()
    training = {key.to_user_string() for key in SELECTIONS["train"].resolve(graph)}

    def record() -> None:
        with pipeline.runner.locked():
            staleness = Staleness(pipeline.runner.candlecast, graph, pipeline.runner.instance, None)
            staleness.plan(training)
            publish_kept_json(staleness.file, staleness._before)

    pipeline.forecast(SESSION, [])
    record()
    pipeline.forecast(SESSION, [])
    _store(pipeline.warehouse, "bars", _bars("AAPL", SESSIONS[40:41]))
    pipeline.forecast(SESSION, [])
    made = [{key.to_user_string() for key in run[0].resolve(graph)} for run in pipeline.runs]
    # Without windows it is not known what these would be trained on.
    unknown = {"kronos_tokenizer", "kronos_predictor", "chronos2_model"}
    assert [training & assets for assets in made] == [training, unknown, training]
    assert all("kronos_forecasts" in assets for assets in made)
    checks = {f"{key.asset_key.to_user_string()}.{key.name}" for key in pipeline.runs[1][0].resolve_checks(graph)}
    assert {"bars.bars_satisfy_the_contract", "volatility_model.is_not_expired"} <= checks
    assert "volatility_model.weights_are_finite" not in checks


def test_symbols_are_accepted_in_any_case(pipeline: RecordingPipeline) -> None:
    pipeline.forecast(SESSION, ["ibm", " IBM"])
    assert pipeline.runs[0][3]["kronos_forecasts"] == {"symbols": ["IBM"]}


@pytest.mark.parametrize(
    ("origin", "symbols", "facts"),
    [
        (SESSION, ["OTHER"], ["OTHER", "market.symbols", "AAPL, IBM, MSFT"]),
        (SESSION, ["MSFT"], ["no bar of MSFT on 2010-12-31", "IBM"]),
        (date(2010, 11, 10), [], ["windows.lookback_window is 32", "8 bars"]),
        (date(2009, 12, 31), [], ["no bar of any symbol on 2009-12-31"]),
        (date(2010, 12, 25), [], ["no session of XNYS in 2010-12-25"]),
        (date(2030, 1, 2), [], ["no session of XNYS in 2030-01-02"]),
    ],
)
def test_what_cannot_be_forecast_is_an_error_before_anything_runs(
    pipeline: RecordingPipeline, origin: date, symbols: list[str], facts: list[str]
) -> None:
    with pytest.raises(CandlecastError) as raised:
        pipeline.forecast(origin, symbols)
    assert all(fact in str(raised.value) for fact in facts)
    assert pipeline.runs == []


def test_a_future_session_is_an_error_that_names_the_last_closed_one(tmp_path: Path) -> None:
    text = SMALL.replace("end = 2010-12-31\n", "end = 2099-12-31\n", 1)
    pipeline = Pipeline(_settings(tmp_path, text), Terminal(quiet=True))
    yesterday = date.today() - timedelta(days=1)
    closed = CALENDAR.sessions(yesterday - timedelta(days=10), yesterday)[-1].date()
    with pytest.raises(CandlecastError, match=rf"not closed yet.* {closed}\b"):
        pipeline.backfill(date(2010, 1, 4), date.today() + timedelta(days=30), "group:market")


def test_a_backfill_of_one_market_asset_includes_its_upstream(pipeline: RecordingPipeline) -> None:
    pipeline.backfill(date(2010, 12, 1), SESSION, "bars")
    ((selection, *_),) = pipeline.runs
    assert {key.to_user_string() for key in selection.selected_keys} == {"bars", "raw_bars"}


@pytest.mark.slow
def test_bars_can_be_backfilled_alone_in_a_fresh_home(tmp_path: Path) -> None:
    project = CliProject(tmp_path)
    done = project.call("backfill", "--from", "2010-12-01", "--to", "2010-12-31", "--assets", "bars")
    assert done.returncode == 0, done.stderr
    assert project.rows("SELECT count(*) AS n FROM bars WHERE session = '2010-12-31' AND symbol = 'IBM'") == [{"n": 1}]
