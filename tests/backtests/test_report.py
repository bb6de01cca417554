from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets.backtests import qlib_backtest, qlib_worker
from assets.backtests.acceptance import accounting_problems, external_resources, largest_difference
from assets.backtests.assets import build_assets
from assets.backtests.plan import NoBacktest
from assets.backtests.qlib_provider import current_provider, publish_provider
from assets.backtests.report import contents
from assets.backtests.report.contents import ReportContents, read_contents
from assets.backtests.report.page import compose
from assets.backtests.report.publish import publish_report, render
from assets.backtests.report.published import PublishedReport, latest_report
from assets.backtests.results import (
    BacktestRequest,
    BacktestResult,
    backtest_request,
    read_days,
    read_measures,
    run_backtest,
    store_backtest,
)
from assets.backtests.signals import NOT_A_MEMBER, make_signals, read_signals, store_signals
from assets.market.universe import SURVIVORS, read_universe
from assets.sessions import session_partitions
from resources.calendar import TradingCalendar
from resources.candlecast import Candlecast
from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings
from resources.warehouse import Warehouse
from tests.backtests.backtest_data import USED, settings_of

CALENDAR = TradingCalendar("XNYS")

# One group: the fixture `reported` materialises the stage.
pytestmark = pytest.mark.xdist_group("report")


def materialise(home: Home, settings: Settings, selection: str | None = None) -> dg.ExecuteInProcessResult:
    resources, assets = {"candlecast": Candlecast(settings)}, build_assets(settings, session_partitions(settings))
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(assets, resources=resources, instance=instance, selection=selection)


@pytest.fixture(scope="module", autouse=True)
def fixed_revision_and_checkpoints() -> Iterator[None]:
    """Fix the code revision, which is part of the report, and the checkpoints in use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "code_revision", lambda: "a revision")
        patch.setattr("assets.forecasting.registry.checkpoints_in_use", lambda settings, checkpoints: USED)
        yield


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, scored_warehouse: Path) -> Home:
    """A home in which the whole stage has been materialised once, with Qlib."""
    root = tmp_path_factory.mktemp("reported")
    shutil.copy(scored_warehouse, root / "warehouse.duckdb")
    result = materialise(Home(root), settings_of(Home(root)))
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    return Home(root)


@pytest.fixture(scope="module")
def html(reported: Home) -> str:
    report = latest_report(reported)
    assert report
    return report.html.read_text(encoding="utf-8")


def backtest_in(home: Home, settings: Settings) -> BacktestResult:
    warehouse = Warehouse(home.warehouse)
    universe = read_universe(settings, warehouse)
    made = make_signals(warehouse, "1d", 10, USED, universe)
    store_signals(warehouse, made)
    provider = publish_provider(warehouse, home, CALENDAR)
    return run_backtest(backtest_request(settings, made.frame, provider, universe), home)


def request_in_home(home: Home, settings: Settings) -> BacktestRequest:
    warehouse = Warehouse(home.warehouse)
    return backtest_request(
        settings, read_signals(warehouse), current_provider(home), read_universe(settings, warehouse)
    )


def contents_of(home: Home, settings: Settings, result: BacktestResult) -> ReportContents:
    warehouse = Warehouse(home.warehouse)
    return read_contents(settings, warehouse, CheckpointStore(home), USED, result, (), "no provider")


def files_in(folder: Path) -> dict[Path, tuple[int, int]]:
    return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(folder.rglob("*"))}


def test_a_second_run_changes_nothing_and_starts_no_child(reported: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a child process was started")

    folders = (reported.reports, reported.qlib, reported.backtests)
    before = [files_in(folder) for folder in folders]
    warehouse = reported.warehouse.read_bytes()
    monkeypatch.setattr(qlib_backtest, "_run_qlib", refuse)
    assert materialise(reported, settings_of(reported)).success
    assert [files_in(folder) for folder in folders] == before
    assert reported.warehouse.read_bytes() == warehouse


def test_a_report_alone_has_the_omissions_of_the_stored_signals_and_makes_them_if_none_are_stored(
    reported: Home, tmp_path: Path
) -> None:
    home = Home(shutil.copytree(reported.root, tmp_path / "home"))
    made, changed = latest_report(home), "a reason that no signal has"
    assert made
    report: PublishedReport | None = None
    for statement in (f"UPDATE signal_omissions SET reason = '{changed}'", "DELETE FROM signal_omissions"):
        with Warehouse(home.warehouse).write() as connection:
            connection.execute(statement)
        assert materialise(home, settings_of(home), "backtest_report").success
        report = latest_report(home)
        assert report and (changed in report.html.read_text(encoding="utf-8")) == statement.startswith("UPDATE")
    assert report and report.digest == made.digest


def test_backtest_tables_contain_every_model_and_net_is_gross_minus_cost(reported: Home) -> None:
    warehouse = Warehouse(reported.warehouse)
    days, measures = read_days(warehouse), read_measures(warehouse)
    assert set(days["model"]) == {"drift", "momentum", "kronos", "chronos2"}
    assert days.groupby("model").size().nunique() == 1
    assert (days["net"] == days["gross"] - days["cost"]).all()
    assert set(measures["model"]) == {*days["model"], "benchmark"}


def test_the_accounting_check_finds_a_wrong_day(reported: Home, scored_warehouse: Path) -> None:
    days = backtest_in(reported, settings_of(reported)).days
    assert accounting_problems(days, 1e6) == []
    wrong = days.copy()
    wrong["net"] += np.where(wrong.index == 7, 1e-6, 0.0)
    assert "1e-06" in accounting_problems(wrong, 1e6)[0]


def test_the_report_loads_nothing_from_the_network(html: str) -> None:
    assert external_resources(html) == []
    assert external_resources('<img src="https://example.org/x.png">') and external_resources('<link href="x.css">')
    assert "http://" not in html and "https://" not in html


def test_the_verdict_comes_first_and_every_section_exists(html: str) -> None:
    title = re.search(r"<h1>(.*?)</h1>", html)
    assert title and "random walk" in title.group(1)
    assert html.index("<h1>") < html.index('class="lead"') < html.index("<table")
    sections = re.findall(r'<section id="(\w+)"', html)
    assert sections == ["skill", "examples", "risk", "backtest", "models", "data", "limitations", "provenance"]
    assert all(f'href="#{section}"' in html for section in sections)
    assert html.count('src="data:image/png;base64,') == 6


def test_no_raw_json_nan_or_python_repr_is_shown(html: str) -> None:
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)
    assert not re.search(r"[{}]|\bnan\b|\bNone\b|Timestamp|ndarray", text)


def test_plots_and_summary_are_files_beside_the_page(reported: Home) -> None:
    report = latest_report(reported)
    assert report
    names = {file.name for file in report.folder.iterdir()}
    assert {"report.html", "report.json", "equity.png", "skill.png", "calibration.png", "fan-1.png"} <= names
    assert report.summary["digest"] == report.digest == report.folder.name
    assert report.summary["verdict"]


def test_the_report_is_of_the_symbols_and_the_range_that_the_settings_ask_for(home: Home, settings: Settings) -> None:
    market = settings.market.model_copy(update={"symbols": ("AAPL", "IBM", "MSFT")})
    windows = settings.windows.model_copy(update={"test": (date(2012, 10, 1), settings.windows.test[1])})
    narrow = settings.model_copy(update={"market": market, "windows": windows})
    nothing = BacktestResult("none", NoBacktest("Not asked for."), pd.DataFrame(), pd.DataFrame(), simulated=False)
    whole, shown = (contents_of(home, one, nothing) for one in (settings, narrow))
    assert set(shown.forecasts["symbol"]) == set(shown.market.coverage["symbol"]) == {"AAPL", "IBM", "MSFT"}
    assert whole.forecasts["origin"].min() < pd.Timestamp("2012-10-01") <= shown.forecasts["origin"].min()
    assert {case.symbol for case in shown.fans} <= {"AAPL", "IBM", "MSFT"}
    each = shown.calibration[shown.calibration["level"] == 0.5].set_index("model")["forecasts"]
    cells = "SELECT model, count(*) AS n FROM forecast_scores WHERE metric = 'pit' AND origin >= DATE '2012-10-01' "
    expected = Warehouse(home.warehouse).frame(cells + "AND symbol IN ('AAPL', 'IBM', 'MSFT') GROUP BY model")
    assert each.to_dict() == expected.set_index("model")["n"].to_dict()


def test_a_report_without_backtest_scores_or_forecasts_names_what_to_materialise(
    home: Home, settings: Settings
) -> None:
    with Warehouse(home.warehouse).write() as connection:
        for table in ("forecasts", "forecast_quantiles", "forecast_scores", "scoreboard"):
            connection.execute(f"DELETE FROM {table}")
    nothing = backtest_in(home, settings)
    assert isinstance(nothing.plan, NoBacktest)
    page = render(compose(contents_of(home, settings, nothing), "0" * 64))
    for asset in ("forecast_scores", "scoreboard", "risk_backtest", "kronos_predictor", "chronos2_model"):
        assert asset in page
    assert nothing.plan.reason in page and "windows.test" in page
    assert "<img" not in page


def test_an_empty_warehouse_still_makes_a_page(tmp_path: Path) -> None:
    settings = settings_of(Home(tmp_path))
    nothing = BacktestResult("none", NoBacktest("There are no bars."), pd.DataFrame(), pd.DataFrame(), simulated=False)
    page = render(compose(contents_of(Home(tmp_path), settings, nothing), "0" * 64))
    assert "There are no bars" in page


def test_too_few_symbols_empty_the_tables_and_the_report_has_the_reason(home: Home, settings: Settings) -> None:
    narrow = settings.model_copy(update={"backtest": settings.backtest.model_copy(update={"topk": 30})})
    result = backtest_in(home, narrow)
    assert isinstance(result.plan, NoBacktest)
    assert "topk = 30" in result.plan.reason
    warehouse = Warehouse(home.warehouse)
    store_backtest(warehouse, result)
    assert read_days(warehouse).empty and read_measures(warehouse).empty
    assert "topk = 30" in render(compose(contents_of(home, narrow, result), "0" * 64))


def test_the_report_states_survivorship_bias_in_data_and_limitations(html: str) -> None:
    data, limits = html.index('<section id="data"'), html.index('<section id="limitations"')
    assert data < html.index(SURVIVORS) < limits < html.rindex(SURVIVORS)


def test_the_report_names_the_closures_that_the_calendar_knows_in_hindsight(html: str, reported: Home) -> None:
    settings = settings_of(reported)
    shown = contents_of(reported, settings, backtest_in(reported, settings))
    assert [str(day) for day in shown.closures] == ["2012-10-29", "2012-10-30"]
    # Every fifth session has an origin, and two of them see the closure within ten bars.
    assert shown.origins_before_closures == 2
    data = html[html.index('<section id="data"') : html.index('<section id="limitations"')]
    assert "2012-10-29 and 2012-10-30" in data and "2 origins" in data and "XNYS" in data
    windows = settings.windows.model_copy(update={"test": (date(2012, 11, 1), settings.windows.test[1])})
    later = contents_of(reported, settings.model_copy(update={"windows": windows}), shown.backtest)
    assert later.closures == () and later.origins_before_closures == 0


@pytest.mark.slow
def test_refused_orders_are_in_the_table_and_the_report(home: Home, settings: Settings) -> None:
    warehouse = Warehouse(home.warehouse)
    with warehouse.write() as connection:
        quiet = "symbol = 'AAPL' AND session BETWEEN '2012-10-01' AND '2012-11-15'"
        connection.execute(f"UPDATE bars SET volume = 0 WHERE {quiet}")
        connection.execute("UPDATE bars SET volume = NULL WHERE symbol = 'IBM'")
    result = backtest_in(home, settings)
    store_backtest(warehouse, result)
    stored = read_measures(warehouse).pivot(index="model", columns="metric", values="value").drop("benchmark")
    assert stored["refused_no_volume"].sum() > 0 and (stored["refused_limit_up"] == 0).all()
    assert (stored["refused_orders"] == stored.filter(like="refused_").drop(columns="refused_orders").sum(axis=1)).all()
    page = render(compose(contents_of(home, settings, result), "0" * 64))
    assert "Orders refused" in page and "volume 0" in page and "at the upper limit" not in page
    assert "No bar has a volume above 0: IBM" in page
    assert {"alpha", "beta", "alpha_low", "minimum_detectable_alpha"} <= set(stored.columns)
    difference = largest_difference(request_in_home(home, settings), result)
    assert difference is not None and difference.problem is None


def test_a_result_that_is_not_qlibs_is_named_by_model_session_and_column(reported: Home) -> None:
    settings = settings_of(reported)
    result = backtest_in(reported, settings)
    days = result.days
    request = request_in_home(reported, settings)
    wrong = days.copy()
    wrong["turnover"] += np.where(wrong.index == 7, 1e-8, 0.0)
    difference = largest_difference(request, replace(result, days=wrong))
    assert difference and difference.problem and np.isclose(difference.size, 1e-8)
    assert f"{days['model'][7]}, {days['session'][7]:%Y-%m-%d}, turnover" in difference.problem
    shorter = largest_difference(request, replace(result, days=days.iloc[1:].reset_index(drop=True)))
    assert shorter and shorter.problem and "sessions" in shorter.problem


@pytest.mark.slow
def test_a_members_file_and_the_order_of_price_limits_determine_the_backtest(home: Home, settings: Settings) -> None:
    (home.root / "members.csv").write_text(
        "symbol,start,end\n" + "".join(f"{symbol},2000-01-03,\n" for symbol in ("AAPL", "FB", "GOOG", "MSFT"))
        + "IBM,2000-01-03,2012-11-30\n"
    )  # fmt: skip
    market = settings.market.model_copy(update={"members": "members.csv"})
    with_members = settings.model_copy(update={"market": market, "root": home.root})
    assert materialise(home, with_members).success
    last = read_signals(Warehouse(home.warehouse)).groupby("symbol")["origin"].max()
    assert last["IBM"] <= pd.Timestamp("2012-11-30") < last["MSFT"]
    report = latest_report(home)
    assert report
    html = report.html.read_text(encoding="utf-8")
    assert "members.csv" in html and NOT_A_MEMBER in html.replace("&#39;", "'")
    assert SURVIVORS not in html
    later = (home.root / "members.csv").read_text().replace("2012-11-30", "2013-01-02")
    recipe = request_in_home(home, with_members).recipe
    (home.root / "members.csv").write_text(later)
    assert request_in_home(home, with_members).recipe != recipe

    limits: list[dict[str, float]] = [{"*": 0.1, "A*": 0.2}, {"A*": 0.2, "*": 0.1}]
    rules = [settings.backtest.model_copy(update={"price_limit": limit}) for limit in limits]
    first, second = (with_members.model_copy(update={"backtest": one}) for one in rules)
    assert request_in_home(home, first).recipe != request_in_home(home, second).recipe


def test_intraday_signals_give_no_backtest_and_a_reason(home: Home, settings: Settings) -> None:
    hourly = settings.model_copy(update={"market": settings.market.model_copy(update={"frequency": "1h"})})
    warehouse = Warehouse(home.warehouse)
    provider = publish_provider(warehouse, home, CALENDAR)
    universe = read_universe(settings, warehouse)
    request = backtest_request(hourly, make_signals(warehouse, "1d", 10, USED, universe).frame, provider, universe)
    found = run_backtest(request, home)
    assert isinstance(found.plan, NoBacktest) and "1h" in found.plan.reason


def test_other_contents_are_another_report(reported: Home) -> None:
    settings = settings_of(reported)
    shown = replace(contents_of(reported, settings, backtest_in(reported, settings)), fans=())
    first = publish_report(shown, reported)
    other = publish_report(replace(shown, revision="another"), reported)
    again = publish_report(shown, reported)
    assert first.digest == again.digest != other.digest
    assert not again.created
    latest = latest_report(reported)
    assert latest and latest.digest == first.digest


def test_a_failed_qlib_process_is_reported_with_its_stderr_and_leaves_nothing(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qlib_worker, "__name__", "assets.backtests.no_such_module")
    with pytest.raises(CandlecastError, match="no_such_module"):
        backtest_in(home, settings)
    assert not home.backtests.exists() or not list(home.backtests.iterdir())


def test_loading_the_assets_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import assets.backtests.assets; "
        "print([m for m in ('torch', 'qlib', 'matplotlib', 'chronos', 'transformers', 'arch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
