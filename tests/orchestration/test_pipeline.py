"""The whole pipeline through the command line: real bars, every stage."""

import hashlib
import json
import shlex
import shutil
import signal
import time
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from assets.forecasting.baselines.closed_form import ESTIMATED
from assets.forecasting.baselines.closed_form import MODELS as CLOSED_FORMS
from assets.forecasting.calibration.models import derived_names
from orchestration.cli.selections import with_keys
from resources.derived_models import COMBINATIONS
from resources.settings import Settings
from tests.orchestration.cli_project import SMALL, CliProject

# One group: the fixture is a whole run.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

TABLES = {
    "bars": "symbol, ts",
    "rejected_bars": "payload_sha256, row_number",
    "corporate_actions": "symbol, ex_date, kind",
    "forecast_quantiles": "model, checkpoint, symbol, origin, step, field, level",
    "forecast_scores": "model, checkpoint, symbol, origin, step, metric",
    "scoreboard": "model, metric, horizon, baseline",
    "forecast_risk": "model, checkpoint, symbol, origin, step, measure, level",
    "risk_backtest": "model, step, measure, level",
    "signals": "model, symbol, origin",
    "signal_omissions": "position",
    "backtests": "model, metric",
    "backtest_days": "model, session",
}
BASES = (*CLOSED_FORMS, *ESTIMATED, "volatility", "kronos", "chronos2")
MODELS = {*BASES, *derived_names(Settings(), BASES), *COMBINATIONS}


def _content(project: CliProject) -> dict[str, str]:
    files = {
        str(file.relative_to(project.home)): hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in ("lake", "windows", "checkpoints", "paths", "qlib", "reports")
        for file in sorted((project.home / folder).rglob("*"))
        if file.is_file()
    }
    tables = {
        table: hashlib.sha256(project.call("query", f"FROM {table} ORDER BY {key}", "--format", "csv").stdout.encode())
        for table, key in TABLES.items()
    }
    return {**files, **{table: digest.hexdigest() for table, digest in tables.items()}}


def test_run_prints_the_report_and_the_verdict(finished: tuple[CliProject, str]) -> None:
    printed = finished[1]
    lines = printed.strip().splitlines()
    assert any(line.startswith("report: ") and Path(line.removeprefix("report: ")).is_file() for line in lines)
    assert "make ui" in printed
    assert len(lines) >= 5


def test_every_table_has_rows_of_every_model(project: CliProject) -> None:
    for table in set(TABLES) - {"rejected_bars"}:
        assert project.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] > 0, table
    assert {row["model"] for row in project.rows("SELECT DISTINCT model FROM forecast_quantiles")} == MODELS
    assert {row["model"] for row in project.rows("SELECT DISTINCT model FROM scoreboard")} >= MODELS - {"random_walk"}
    # Ten steps leave Chronos-2 without a view on direction, so it is not ranked.
    assert {"kronos", "drift"} <= {row["model"] for row in project.rows("SELECT DISTINCT model FROM backtest_days")}


def test_no_row_of_the_source_is_lost(project: CliProject) -> None:
    (row,) = project.rows("SELECT sum(received) AS r, sum(kept) + sum(folded) + sum(rejected) AS s FROM payloads")
    assert row["r"] == row["s"]
    assert (
        project.rows("SELECT sum(kept) AS n FROM payloads")[0]["n"]
        == project.rows("SELECT count(*) AS n FROM bars")[0]["n"]
    )


def test_quantiles_are_finite_and_ordered_and_targets_follow_the_origin(project: CliProject) -> None:
    assert project.rows(
        "SELECT count(*) AS n FROM forecast_quantiles WHERE NOT isfinite(value) OR target_ts <= origin"
    ) == [{"n": 0}]
    crossed = project.rows(
        "SELECT count(*) AS n FROM (SELECT value < lag(value) OVER (PARTITION BY model, checkpoint, symbol, origin, "
        "step, field ORDER BY level) AS falls FROM forecast_quantiles) WHERE falls"
    )
    assert crossed == [{"n": 0}]
    assert project.rows("SELECT count(*) AS n FROM forecast_quantiles WHERE in_sample AND origin >= '2010-02-01'") == [
        {"n": 0}
    ]


def test_a_second_run_changes_nothing(project: CliProject) -> None:
    before = _content(project)
    done = project.call("run")
    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stderr
    assert _content(project) == before


def test_the_report_is_self_contained(project: CliProject) -> None:
    done = project.call("report", "--json")
    result = json.loads(done.stdout)
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert result["verdict"]
    assert 'src="http' not in page
    assert "<script src" not in page
    assert "data:image/png;base64," in page


def test_lineage_leads_from_a_digest_to_the_source_file(project: CliProject) -> None:
    result = json.loads(project.call("report", "--json").stdout)
    tree = project.call("lineage", result["digest"][:12])
    assert tree.returncode == 0, tree.stderr
    assert "stocks.csv.gz" in tree.stdout
    (row,) = project.rows("SELECT DISTINCT checkpoint FROM forecast_quantiles WHERE model = 'kronos'")
    assert "kronos" in project.call("lineage", row["checkpoint"][:16]).stdout
    assert "raw_bars" in project.call("lineage", "backtest_report").stdout
    assert project.call("lineage", "nonsense-digest").returncode == 1


def test_bars_after_an_origin_change_no_forecast(project: CliProject, tmp_path: Path) -> None:
    """Of every model, to the last byte: a copy whose later bars are changed forecasts the same origin identically.

    One copy has its networks in the companion and never imports torch, the other one has them in its own process.
    """
    origin = "2010-07-01"
    sql = (
        "SELECT model, checkpoint, symbol, step, target_ts, field, level, hex(value::VARCHAR) AS v "
        f"FROM forecast_quantiles WHERE origin = '{origin}' ORDER BY ALL"
    )
    assert project.rows(sql) == [], "an existing origin would not be forecast again"
    copies = []
    for name, workers in (("original", 2), ("changed", 1)):
        (tmp_path / name).mkdir()
        copy = CliProject(tmp_path / name, f"{SMALL}device = 'cpu'\nworkers = {workers}\n")
        shutil.copytree(project.home, copy.home)
        if name == "changed":
            with duckdb.connect(str(copy.home / "warehouse.duckdb")) as connection:
                connection.execute(
                    "UPDATE bars SET open = open * 3, high = high * 9, low = low / 7, close = close * 2, "
                    f"volume = volume * 5 WHERE session > '{origin}'"
                )
        assert ("torch" in copy.modules_of("forecast", "--origin", origin)) == (workers == 1)
        copies.append(copy.rows(sql))
    assert {row["model"] for row in copies[0]} == MODELS
    assert copies[0] == copies[1]


def test_forecast_without_origin_uses_the_newest_session_and_the_champions(project: CliProject, tmp_path: Path) -> None:
    """The sample has bars after market.end and of symbols that the settings do not name."""
    copy = CliProject(tmp_path)
    shutil.copytree(project.home, copy.home)
    done = copy.call("forecast", "--symbols", "ibm", "--json")
    assert done.returncode == 0, done.stdout
    result = json.loads(done.stdout)
    assert result["origin"] == "2010-12-31"
    rows = result["forecasts"]
    assert {row["symbol"] for row in rows} == {"IBM"}
    assert sorted((row["model"], row["step"]) for row in rows) == sorted((m, s) for m in MODELS for s in (1, 4))
    assert all(row["checkpoint"] for row in rows)
    made = {run["asset"] for run in result["assets"]}
    assert "chronos2_model_is_not_expired" in made and "chronos2_model" not in made


def test_forecasts_go_to_files_and_stored_forecasts_are_backtested_again(project: CliProject, tmp_path: Path) -> None:
    copy = CliProject(tmp_path, f"{SMALL}device = 'cuda:99'\n")
    shutil.copytree(project.home, copy.home)
    csv, plot = tmp_path / "out.csv", tmp_path / "fans.png"
    done = copy.call("forecast", "--csv", str(csv), "--plot", str(plot), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    header, *rows = csv.read_text().splitlines()
    assert header.endswith(",0.1,0.25,0.5,0.75,0.9")
    assert len(rows) == 3 * 4 * (len(MODELS) - 1 + 6)  # Kronos forecasts six fields
    assert plot.read_bytes().startswith(b"\x89PNG")
    trained = json.loads(copy.call("train", "--model", "chronos2", "--device", "cpu", "--json").stdout)
    assert trained["checkpoints"]["chronos2_model"]["scores"]["loss"] > 0
    assert "kept" in trained["promotions"]["chronos2_model"]
    tested = json.loads(copy.call("backtest", "--json").stdout)
    assert Path(tested["report"]).is_file()
    assert {"kronos", "benchmark"} <= {row["model"] for row in tested["measures"]}


def test_coverage_is_of_the_intervals_that_the_levels_have(project: CliProject) -> None:
    found = project.rows("SELECT DISTINCT metric FROM scoreboard WHERE metric LIKE 'coverage%' ORDER BY 1")
    assert [row["metric"] for row in found] == ["coverage_50", "coverage_80"]
    report = next((project.home / "reports").glob("*/report.html")).read_text()
    assert "Coverage, 80\N{NO-BREAK SPACE}% interval" in report.replace(" %", "\N{NO-BREAK SPACE}%")
    assert "50\N{NO-BREAK SPACE}% and 80\N{NO-BREAK SPACE}% intervals" in report


def test_rebuild_restores_the_market_tables_from_the_lake(project: CliProject, tmp_path: Path) -> None:
    sql = "FROM bars SELECT * EXCLUDE (available_at, batch) ORDER BY ALL"
    copy = CliProject(tmp_path)
    shutil.copytree(project.home, copy.home)
    with duckdb.connect(str(copy.home / "warehouse.duckdb")) as connection:
        connection.execute("DELETE FROM bars WHERE symbol = 'IBM'")
    done = copy.call("rebuild", "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    rows = project.rows(sql)
    assert json.loads(done.stdout)["kept"] == len(rows)
    assert copy.rows(sql) == rows


def test_a_second_run_names_the_process_that_holds_the_home(tmp_path: Path) -> None:
    project = CliProject(tmp_path)
    first = project.start("run")
    holder = project.home / "run.pid"
    while not holder.is_file() and first.poll() is None:
        time.sleep(0.1)
    # Stopped, so that it cannot finish before the second one has started.
    first.send_signal(signal.SIGSTOP)
    second = project.call("run")
    assert second.returncode == 1
    assert f"process {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    first.send_signal(signal.SIGINT)
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 130
    resumed = project.call("backfill", "--from", "2010-12-01", "--to", "2010-12-31")
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.parametrize(
    ("override", "fact"),
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
def test_too_little_data_is_an_error_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: dict[str, str], fact: str
) -> None:
    project = CliProject(tmp_path)
    environment = {**project.environment(), **override}
    monkeypatch.setattr(project, "environment", lambda: environment)
    done = project.call("run")
    assert done.returncode == 1, done.stderr
    assert fact in done.stderr
    assert any(character.isdigit() for character in done.stderr)
    assert not list((project.home / "checkpoints").glob("*/*/model.safetensors"))


def test_the_exit_status_is_2_for_wrong_settings_and_1_for_a_failure(tmp_path: Path) -> None:
    assert CliProject(tmp_path, SMALL + "\n[profiles.sample.backtest2]\na = 1\n").call("run").returncode == 2
    (tmp_path / "x").mkdir()
    assert CliProject(tmp_path / "x").call("query", "SELECT 1").returncode == 1
    assert CliProject(tmp_path / "x").call("run", "--nonsense").returncode == 2


@pytest.mark.parametrize("selection", ["bars signals", "bars, signals", "bars,signals", "bars or signals"])
def test_names_one_after_another_are_answered_with_their_union(selection: str) -> None:
    corrected = shlex.split(with_keys(selection, {"bars", "raw_bars", "signals"}))[-1]
    found = dg.AssetSelection.from_string(corrected)
    assert found == dg.AssetSelection.from_string('key:"bars"') | dg.AssetSelection.from_string('key:"signals"')


def test_a_selection_of_bare_names_is_answered_with_one_that_works(tmp_path: Path) -> None:
    done = CliProject(tmp_path).call(
        "backfill", "--from", "2010-12-01", "--to", "2010-12-31", "--assets", "raw_bars or group:training"
    )
    assert done.returncode == 1
    assert """--assets 'key:"raw_bars" or group:training'""" in done.stderr
