"""The whole chain as a person runs it: the command line, real bars, every stage."""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chain_world import SMALL, World

pytestmark = pytest.mark.slow

TABLES = {
    "bars": "symbol, ts",
    "rejected_bars": "payload_sha256, row_number",
    "corporate_actions": "symbol, ex_date, kind",
    "forecast_quantiles": "model, checkpoint, symbol, origin, step, field, level",
    "forecast_scores": "model, checkpoint, symbol, origin, step, metric",
    "scoreboard": "model, metric, horizon, baseline",
    "signals": "model, symbol, origin",
    "backtests": "model, metric",
    "backtest_days": "model, session",
}
MODELS = {"random_walk", "random_walk_ewma", "drift", "momentum", "kronos", "chronos2"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("chain"))
    done = world.call("run")
    assert done.returncode == 0, done.stderr
    world.printed = done.stdout
    yield world


def _content(world: World) -> dict[str, str]:
    files = {
        str(file.relative_to(world.home)): hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in ("lake", "windows", "checkpoints", "paths", "qlib", "reports")
        for file in sorted((world.home / folder).rglob("*"))
        if file.is_file()
    }
    tables = {
        table: hashlib.sha256(world.call("query", f"FROM {table} ORDER BY {key}", "--format", "csv").stdout.encode())
        for table, key in TABLES.items()
    }
    return {**files, **{table: digest.hexdigest() for table, digest in tables.items()}}


def test_it_ends_by_saying_where_the_report_is_and_what_it_found(world):
    lines = world.printed.strip().splitlines()
    assert any(line.startswith("report: ") and Path(line.removeprefix("report: ")).is_file() for line in lines)
    assert "make ui" in world.printed
    assert len(lines) >= 5


def test_every_table_has_rows_of_every_model(world):
    for table in set(TABLES) - {"rejected_bars"}:
        assert world.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] > 0, table
    assert {row["model"] for row in world.rows("SELECT DISTINCT model FROM forecast_quantiles")} == MODELS
    assert {row["model"] for row in world.rows("SELECT DISTINCT model FROM scoreboard")} >= MODELS - {"random_walk"}
    # Ten steps leave Chronos-2 without a view on direction, so it is not ranked.
    assert {"kronos", "drift"} <= {row["model"] for row in world.rows("SELECT DISTINCT model FROM backtest_days")}


def test_no_row_of_the_source_is_lost(world):
    (row,) = world.rows("SELECT sum(received) AS r, sum(kept) + sum(folded) + sum(rejected) AS s FROM payloads")
    assert row["r"] == row["s"]
    assert (
        world.rows("SELECT sum(kept) AS n FROM payloads")[0]["n"]
        == world.rows("SELECT count(*) AS n FROM bars")[0]["n"]
    )


def test_forecasts_are_finite_ordered_and_only_for_what_comes(world):
    assert world.rows(
        "SELECT count(*) AS n FROM forecast_quantiles WHERE NOT isfinite(value) OR target_ts <= origin"
    ) == [{"n": 0}]
    crossed = world.rows(
        "SELECT count(*) AS n FROM (SELECT value < lag(value) OVER (PARTITION BY model, checkpoint, symbol, origin, "
        "step, field ORDER BY level) AS falls FROM forecast_quantiles) WHERE falls"
    )
    assert crossed == [{"n": 0}]
    assert world.rows("SELECT count(*) AS n FROM forecast_quantiles WHERE in_sample") == [{"n": 0}]


def test_a_second_run_changes_nothing(world):
    before = _content(world)
    done = world.call("run")
    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stderr
    assert _content(world) == before


def test_the_report_stands_alone(world):
    done = world.call("report", "--json")
    told = json.loads(done.stdout)
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert told["verdict"]
    assert 'src="http' not in page
    assert "<script src" not in page
    assert "data:image/png;base64," in page


def test_a_number_leads_back_to_the_file(world):
    told = json.loads(world.call("report", "--json").stdout)
    tree = world.call("lineage", told["digest"][:12])
    assert tree.returncode == 0, tree.stderr
    assert "stocks.csv.gz" in tree.stdout
    (row,) = world.rows("SELECT DISTINCT checkpoint FROM forecast_quantiles WHERE model = 'kronos'")
    assert "kronos" in world.call("lineage", row["checkpoint"][:16]).stdout
    assert "raw_bars" in world.call("lineage", "backtest_report").stdout
    assert world.call("lineage", "nonsense-digest").returncode == 1


def test_bars_after_an_origin_change_no_forecast(world, tmp_path):
    """Every model, to the last byte: the later bars of a copy are changed, and the same origin is forecast anew."""
    origin = "2010-07-01"
    sql = (
        "SELECT model, checkpoint, symbol, step, target_ts, field, level, hex(value::VARCHAR) AS v "
        f"FROM forecast_quantiles WHERE origin = '{origin}' ORDER BY ALL"
    )
    assert world.rows(sql) == [], "an origin that is there already would not be forecast anew"
    copies = []
    for name in ("as_it_was", "changed"):
        copy = World(tmp_path / name) if (tmp_path / name).mkdir() is None else None
        assert copy is not None
        shutil.copytree(world.home, copy.home)
        if name == "changed":
            import duckdb

            with duckdb.connect(str(copy.home / "warehouse.duckdb")) as connection:
                connection.execute(
                    "UPDATE bars SET open = open * 3, high = high * 9, low = low / 7, close = close * 2, "
                    f"volume = volume * 5 WHERE session > '{origin}'"
                )
        done = copy.call("forecast", "--origin", origin)
        assert done.returncode == 0, done.stderr
        copies.append(copy.rows(sql))
    assert {row["model"] for row in copies[0]} == MODELS
    assert copies[0] == copies[1]


def test_a_plain_forecast_is_of_the_settings_newest_session_by_what_is_in_use(world, tmp_path):
    """The sample's bars go on beyond market.end and to symbols that the settings do not name."""
    copy = World(tmp_path)
    shutil.copytree(world.home, copy.home)
    done = copy.call("forecast", "--symbols", "ibm", "--json")
    assert done.returncode == 0, done.stdout
    told = json.loads(done.stdout)
    assert told["origin"] == "2010-12-31"
    rows = told["forecasts"]
    assert {row["symbol"] for row in rows} == {"IBM"}
    assert sorted((row["model"], row["step"]) for row in rows) == sorted((m, s) for m in MODELS for s in (1, 4))
    assert all(row["checkpoint"] for row in rows)


def test_a_second_run_beside_one_that_works_says_why_not(tmp_path):
    world = World(tmp_path)
    first = world.start("run")
    note = world.home / "run.pid"
    while not note.is_file() and first.poll() is None:
        time.sleep(0.1)
    # Held still, so that it cannot be through before the second one has looked.
    first.send_signal(signal.SIGSTOP)
    second = world.call("run")
    assert second.returncode == 1
    assert f"process {first.pid} runs there" in second.stderr
    assert "Traceback" not in second.stderr
    first.send_signal(signal.SIGINT)
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 130
    resumed = world.call("backfill", "--from", "2010-12-01", "--to", "2010-12-31")
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            {"CANDLECAST__WINDOWS__TEST": '["2013-06-01", "2013-12-31"]', "CANDLECAST__MARKET__END": "2013-12-31"},
            "test",
        ),
        ({"CANDLECAST__WINDOWS__TRAIN": '["2000-03-01", "2000-03-10"]'}, "train"),
        (
            {
                "CANDLECAST__MARKET__SYMBOLS": '["AAPL", "FB"]',
                "CANDLECAST__WINDOWS__LOOKBACK_WINDOW": "200",
                "CANDLECAST__WINDOWS__MAX_CONTEXT": "256",
                "CANDLECAST__MARKET__END": "2013-03-01",
            },
            "FB",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training_with_counts(tmp_path, monkeypatch, override, told):
    for name, value in override.items():
        monkeypatch.setenv(name, value)
    world = World(tmp_path)
    kept = world.environment
    world.environment = lambda: {**kept(), **{k: os.environ[k] for k in override}}  # type: ignore[method-assign]
    done = world.call("run")
    assert done.returncode == 1, done.stderr
    assert told in done.stderr
    assert any(character.isdigit() for character in done.stderr)
    assert not list((world.home / "checkpoints").glob("*/*/model.safetensors"))


def test_settings_that_are_wrong_end_with_2_and_a_failure_with_1(tmp_path):
    assert World(tmp_path, SMALL + "\n[profiles.sample.backtest2]\na = 1\n").call("run").returncode == 2
    (tmp_path / "x").mkdir()
    assert World(tmp_path / "x").call("query", "SELECT 1").returncode == 1
    assert World(tmp_path / "x").call("run", "--nonsense").returncode == 2
