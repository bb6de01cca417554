"""What `candlecast run` makes again after a change, and that it ends like a run that makes everything."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from assets.backtests import results
from assets.forecasting import kronos_forecaster
from benchmarks.orchestration.homes import TRAINED as FEW_STEPS
from benchmarks.orchestration.homes import SimulatedHome
from orchestration.cli.headless import HeadlessRunner
from orchestration.cli.instance import open_instance
from orchestration.cli.run_progress import RunMonitor
from orchestration.cli.selections import MODELLING
from orchestration.cli.session_ranges import SessionPlanner
from orchestration.staleness.contents import FileDigests
from orchestration.staleness.plan import RunPlan, Staleness
from orchestration.staleness.reads import ALL_TABLES, EVERYTHING, NOT_READ, READS, reads_of
from resources.layout import Home
from resources.pointers import write_pointer
from resources.profiles import load_settings
from resources.schema import SCHEMA
from resources.settings import Settings
from tests.orchestration.cli_project import CliProject

SCORED = {"forecast_scores", "scoreboard", "forecast_risk", "risk_backtest", "signals", "backtest_report"}
DERIVED = {"calibrated_forecasts", "combined_forecasts", *SCORED}
KRONOS = {"input_drift", "kronos_forecasts", *DERIVED}
CHRONOS2 = {"chronos2_forecasts", *DERIVED}
VOLATILITY = {"volatility_forecasts", *DERIVED}
TRAINED = {"kronos_tokenizer", "kronos_predictor", "chronos2_model", "volatility_model"}
ALL = {"training_windows", "qlib_provider", "baseline_forecasts", *TRAINED, *KRONOS, *CHRONOS2, *VOLATILITY}

Overrides = Mapping[str, Mapping[str, object]]


def _overridden(section: str, **values: object) -> Overrides:
    return {section: values}


SETTINGS: list[tuple[Overrides, set[str]]] = [
    ({}, set()),
    (_overridden("market", symbols=["AAPL", "GOOG", "IBM", "MSFT"]), ALL),
    (_overridden("windows", embargo=3), ALL),
    (_overridden("tokenizer", epochs=2), {"kronos_tokenizer", "kronos_predictor", *KRONOS}),
    (_overridden("predictor", learning_rate=1e-4), {"kronos_predictor", *KRONOS}),
    (_overridden("chronos2", steps=11), {"chronos2_model", *CHRONOS2}),
    (_overridden("volatility", base="none"), {"volatility_model", *VOLATILITY}),
    (_overridden("promotion", rule="better"), TRAINED | KRONOS | CHRONOS2 | VOLATILITY),
    (_overridden("drift", quantile=0.95), KRONOS),
    (_overridden("forecasts", every=21), ALL - {"training_windows", "kronos_tokenizer", "qlib_provider"}),
    (_overridden("evaluation", confidence=0.8), DERIVED),
    (_overridden("risk", levels=[0.1]), {"forecast_risk", "risk_backtest", "backtest_report"}),
    (_overridden("backtest", signal_step=2), {"signals", "backtest_report"}),
    (_overridden("backtest", hold_thresh=2), {"backtest_report"}),
]


def _plan(home: Path, file: Path, overrides: Overrides = {}, profile: str = "sample") -> RunPlan:  # noqa: B006
    """The plan of `candlecast run` in a home."""
    settings = load_settings(file, profile, home, overrides)
    runner = HeadlessRunner(settings, RunMonitor())
    graph = runner.defs.resolve_asset_graph()
    names = {key.to_user_string() for key in MODELLING.resolve(graph)}
    with runner.locked():
        planner = SessionPlanner(settings, runner.candlecast.calendar, runner.candlecast.warehouse)
        sessions = planner.forecast_range()
        return Staleness(runner.candlecast, graph, runner.instance, (sessions.first, sessions.last)).plan(names)


@pytest.fixture
def copy(project: CliProject, tmp_path: Path) -> CliProject:
    copied = CliProject(tmp_path)
    shutil.copytree(project.home, copied.home)
    return copied


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
@pytest.mark.parametrize(("overrides", "made"), SETTINGS)
def test_a_changed_setting_makes_what_depends_on_it(project: CliProject, overrides: Overrides, made: set[str]) -> None:
    plan = _plan(project.home, project.file, overrides)
    assert set(plan.stale) == made, plan.stale
    assert set(plan.up_to_date) == ALL - made


def _sql(statement: str) -> Callable[[Path], None]:
    def change(home: Path) -> None:
        with duckdb.connect(str(home / "warehouse.duckdb")) as connection:
            connection.execute(statement)

    return change


def _without(pattern: str) -> Callable[[Path], None]:
    def change(home: Path) -> None:
        next(file for file in sorted(home.glob(pattern)) if file.is_file()).unlink()

    return change


def _with_other_byte(pattern: str) -> Callable[[Path], None]:
    def change(home: Path) -> None:
        file = next(file for file in sorted(home.glob(pattern)) if file.is_file())
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)

    return change


def _without_chart(home: Path) -> None:
    """Remove a chart of the Qlib provider's page, of which neither picture nor data are left."""
    next(file for file in (home / "pictures").glob("*.json") if b'"chart":"provider"' in file.read_bytes()).unlink()


def _without_current_report(home: Path) -> None:
    shutil.rmtree(home / "reports" / json.loads((home / "reports" / "latest.json").read_text())["digest"])


APPENDED = "INSERT INTO bars SELECT * REPLACE (ts + INTERVAL 1 DAY AS ts) FROM bars ORDER BY ts DESC LIMIT 1"
CHANGES: list[tuple[Callable[[Path], None], set[str]]] = [
    (_sql("UPDATE bars SET close = close * 0.999 WHERE symbol = 'IBM' AND session = '2010-06-01'"), ALL),
    (_sql(APPENDED), ALL),
    (_sql("DELETE FROM forecasts WHERE model = 'kronos' AND symbol = 'IBM'"), KRONOS - {"input_drift"}),
    (_sql("DELETE FROM forecast_scores WHERE model = 'har' AND symbol = 'IBM'"), SCORED - {"signals"}),
    (_sql("DELETE FROM scoreboard"), {"scoreboard", "forecast_risk", "risk_backtest", "backtest_report"}),
    (_sql("DELETE FROM backtest_days"), {"backtest_report"}),
    (_sql("DELETE FROM signal_omissions"), {"signals", "backtest_report"}),
    (
        _without("windows/*/manifest.json"),
        ALL - {"baseline_forecasts", "qlib_provider", "volatility_model", "volatility_forecasts"},
    ),
    (_with_other_byte("checkpoints/chronos2_model/*/model.safetensors"), {"chronos2_model", *CHRONOS2}),
    (_with_other_byte("paths/kronos/*/*.parquet"), KRONOS - {"input_drift"}),
    (_without("qlib/*/calendars/day.txt"), {"qlib_provider", "backtest_report"}),
    (_without_current_report, {"backtest_report"}),
    (_without_chart, {"qlib_provider", "backtest_report"}),
    (_without("up_to_date.json"), ALL),
    (_with_other_byte("up_to_date.json"), ALL),
]


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
@pytest.mark.parametrize(("change", "made"), CHANGES)
def test_a_changed_home_makes_what_depends_on_it(
    copy: CliProject, change: Callable[[Path], None], made: set[str]
) -> None:
    change(copy.home)
    assert set(_plan(copy.home, copy.file).stale) == made


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_a_new_version_of_a_recipe_makes_what_depends_on_it(
    project: CliProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(results, "CODE_VERSION", "new")
        assert set(_plan(project.home, project.file).stale) == {"backtest_report"}
    monkeypatch.setattr(kronos_forecaster, "VERSION", kronos_forecaster.VERSION + 1)
    assert set(_plan(project.home, project.file).stale) == KRONOS - {"input_drift"}


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_a_run_that_leaves_out_assets_ends_like_one_that_makes_all(copy: CliProject, tmp_path: Path) -> None:
    text = copy.file.read_text().replace("steps = 10\n", "steps = 11\n")
    (tmp_path / "whole").mkdir()
    whole = CliProject(tmp_path / "whole", text)
    shutil.copytree(copy.home, whole.home)
    (whole.home / "up_to_date.json").unlink()
    copy.file.write_text(text)
    result = json.loads(copy.call("run", "--json").stdout)
    assert "chronos2_model" in result["stale"] and "kronos_forecasts" in result["up_to_date"]
    made = {one["asset"] for one in result["assets"]}
    assert made >= {"chronos2_forecasts", "backtest_report", "bars_every_symbol_has_bars"}
    assert made >= {"kronos_predictor_is_not_expired"} and not made & set(result["up_to_date"])
    everything = json.loads(whole.call("run", "--json").stdout)
    assert set(everything["stale"]) == ALL
    assert _rows(copy.home) == _rows(whole.home)
    assert _report(result) == _report(everything)
    for key in ("promotions", "not_made", "warnings", "origins", "results", "verdict"):
        assert result[key] == everything[key], key
    again = json.loads(copy.call("run", "--json").stdout)
    assert again["stale"] == {} and set(again["up_to_date"]) == ALL
    assert not {one["asset"] for one in again["assets"]} & ALL


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_a_run_starts_the_companion_only_if_networks_have_something_to_forecast(copy: CliProject) -> None:
    other = CliProject(copy.folder, f"{copy.file.read_text()}device = 'cpu'\nworkers = 2\n")
    plan = _plan(other.home, other.file)
    assert {"kronos_forecasts", "chronos2_forecasts"} <= set(plan.stale)
    assert not [child for child in other.children_of("run") if "import work;" in child]
    newest = "model = 'kronos' AND origin = (SELECT max(origin) FROM forecasts)"
    for table in ("forecast_quantiles", "forecasts"):
        _sql(f"DELETE FROM {table} WHERE {newest}")(other.home)
    assert [child for child in other.children_of("run") if "import work;" in child]


@pytest.mark.slow
def test_a_run_after_new_sessions_is_for_these_alone_and_ends_like_one_over_all(tmp_path: Path) -> None:
    grown = SimulatedHome.create(tmp_path / "grown", 2, 1, FEW_STEPS.format(every=60))
    grown.call("run")
    whole = SimulatedHome(tmp_path / "whole")
    shutil.copytree(grown.folder, whole.folder)
    (whole.home / "up_to_date.json").unlink()
    covered = _partitions(grown)
    for home in (grown, whole):
        home.next_session()
        home.call("run")
    assert len(_partitions(whole)) - len(_partitions(grown)) > 100
    assert len(_partitions(grown)) < len(covered) + 60
    assert _rows(grown.home) == _rows(whole.home)
    newest = grown.next_session()
    grown.call("run", "--assets", "corporate_actions")
    first = _plan(grown.home, grown.settings, profile="simulated").first
    assert first is not None and first < newest
    _sql("UPDATE bars SET close = close * 1.001 WHERE session = (SELECT min(session) FROM bars)")(grown.home)
    assert _plan(grown.home, grown.settings, profile="simulated").first is None


def _partitions(simulated: SimulatedHome) -> list[str]:
    """The partitions of all materialisations of the scores, in their order."""
    settings = load_settings(simulated.settings, "simulated", simulated.home)
    with open_instance(settings) as instance:
        found = instance.fetch_materializations(dg.AssetKey("forecast_scores"), limit=10_000)
    return [str(one.partition_key) for one in found.records]


def _report(result: Mapping[str, str]) -> dict[str, object]:
    """The content of the report; its digest covers how long forecasts took."""
    content = json.loads((Path(result["report"]).parent / "report.json").read_text())
    return {name: value for name, value in content.items() if name != "digest"}


def _rows(home: Path) -> dict[str, object]:
    """The rows of every table, without what tells the time."""
    times = {"made_at", "available_at", "ingested_at", "tried_at", "seconds", "peak_mib"}
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        found: dict[str, object] = {}
        for table in set(ALL_TABLES) - {"forecast_costs"}:
            named = [name for name, *_ in connection.execute(f"DESCRIBE {table}").fetchall() if name not in times]
            columns = ", ".join(named)
            sql = f"SELECT count(*), sum(hash(t)::HUGEINT) FROM (SELECT {columns} FROM {table}) t"
            found[table] = connection.execute(sql).fetchall()
    return found


def test_of_stored_backtests_the_newest_is_compared(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for recipe in ("earlier", "newest"):
        (home.backtests / recipe).mkdir(parents=True)
        (home.backtests / recipe / "days.parquet").write_bytes(b"days")
    write_pointer(home.backtests / "current.json", "newest")

    def digest() -> str:
        files = FileDigests(home)
        return files.of(files.current("backtests"))

    before = digest()
    (home.backtests / "earlier" / "days.parquet").unlink()
    assert digest() == before
    (home.backtests / "newest" / "days.parquet").write_bytes(b"other days")
    assert digest() != before


def test_every_table_is_compared() -> None:
    assert {*ALL_TABLES, "schema_version"} == set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", SCHEMA))


def test_every_section_of_the_settings_is_read_or_says_where_things_are() -> None:
    assert {*EVERYTHING} | NOT_READ == set(Settings.model_fields)


def test_tables_are_written_by_the_asset_or_upstream_of_it() -> None:
    """So the state after a run is the one that each of its assets has read."""
    settings = Settings()
    graph = HeadlessRunner(settings, RunMonitor()).defs.resolve_asset_graph()
    forecasts = set(settings.forecast_assets)
    writers = {
        **dict.fromkeys(("forecasts", "forecast_quantiles", "failed_forecasts", "forecast_recipes"), forecasts),
        "forecast_costs": forecasts,
        "forecast_scores": {"forecast_scores"},
        "scored_actuals": {"forecast_scores"},
        "backtests": {"backtest_report"},
        "backtest_days": {"backtest_report"},
        **{name: {name} for name in ("scoreboard", "forecast_risk", "risk_backtest", "signals")},
        "signal_omissions": {"signals"},
    }
    reads = reads_of(settings)
    assert set(READS) | forecasts == set(reads)
    for name, own in reads.items():
        upstream = {key.to_user_string() for key in dg.AssetSelection.assets(name).upstream().resolve(graph)}
        for table in set(own.tables) & writers.keys():
            by = set(own.rows_of) if own.rows_of else writers[table]
            assert by & writers[table] <= upstream, (name, table)
