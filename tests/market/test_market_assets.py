"""The market stage in Dagster: runs over many sessions, checks, metadata, idempotence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets.market.actions import ActionChanges, actions_differ
from assets.market.assets import build_assets
from assets.market.checks import gate
from assets.market.ingest.ingest import ingest
from assets.market.ingest.lake import Lake
from assets.market.ingest.landing import land
from assets.market.ingest.pending import pending_sessions, wanted_by
from assets.sessions import session_partitions
from resources.candlecast import Candlecast
from resources.settings import MarketSettings, Settings, WindowSettings
from tests.market.market_desk import GOOD, HEADER

LINES = [GOOD.replace("2012-01-03", f"2012-01-{day:02}") for day in (3, 4, 5, 6, 9)]


class MarketStage:
    """Settings, resources and a Dagster instance of one home."""

    def __init__(self, folder: Path, **market: object) -> None:
        values = {"source": "files", "path": "bars/*", "start": date(2012, 1, 3), "end": date(2012, 1, 9), **market}
        windows = WindowSettings(
            train=(date(2012, 1, 3), date(2012, 1, 4)),
            validation=(date(2012, 1, 5), date(2012, 1, 5)),
            test=(date(2012, 1, 6), date(2012, 1, 9)),
        )
        self.settings = Settings(
            market=MarketSettings(**values),
            windows=windows,
            root=folder,
            home=folder / "home",
        )
        self.candlecast = Candlecast(self.settings)
        self.instance = dg.DagsterInstance.ephemeral()
        self.sessions = session_partitions(self.settings)

    def run(self, first: str, last: str, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
        built = build_assets(self.sessions)
        checks = [item for item in built if isinstance(item, dg.AssetChecksDefinition)]
        defs = dg.Definitions(
            assets=[item for item in built if item not in checks],
            asset_checks=checks,
            resources={"candlecast": self.candlecast},
            jobs=[dg.define_asset_job("market", selection="*")],
        )
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return defs.resolve_job_def("market").execute_in_process(
            instance=self.instance, tags=tags, raise_on_error=raise_on_error
        )

    def pending(self) -> Sequence[date]:
        parts = self.candlecast
        return pending_sessions(self.settings, parts.home, parts.warehouse, parts.calendar, parts.source)


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / "bars").mkdir(exist_ok=True)
    (folder / "bars" / name).write_text("\n".join([HEADER, *lines]) + "\n")


def versions(result: dg.ExecuteInProcessResult, asset: str) -> set[str | None]:
    return {
        event.materialization.tags.get("dagster/data_version") if event.materialization.tags else None
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key == dg.AssetKey(asset)
    }


def test_a_backfill_is_one_run_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "bars.csv", *LINES)
    stage = MarketStage(tmp_path)
    assert len(stage.pending()) == 5
    first = stage.run("2012-01-03", "2012-01-09")
    assert stage.instance.get_materialized_partitions(dg.AssetKey("bars")) == set(stage.sessions.get_partition_keys())
    assert all(check.passed for check in first.get_asset_check_evaluations())
    assert stage.pending() == []
    written = stage.settings.home / "warehouse.duckdb"
    before = written.stat().st_mtime_ns
    second = stage.run("2012-01-03", "2012-01-09")
    for asset in ("raw_bars", "bars", "corporate_actions"):
        assert versions(first, asset) == versions(second, asset)
    assert written.stat().st_mtime_ns == before


def test_the_metadata_of_bars_has_counts_tables_and_plots(tmp_path: Path) -> None:
    write(tmp_path, "bars.csv", *LINES, "AAPL,2012-01-07,10,11,9,10.5,1")
    stage = MarketStage(tmp_path, max_rejected=0.2)
    stage.run("2012-01-03", "2012-01-09")
    event = stage.instance.get_latest_materialization_event(dg.AssetKey("bars"))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata
    assert (shown["kept"].value, shown["rejected"].value) == (5, 1)
    records = stage.instance.fetch_materializations(dg.AssetKey("bars"), limit=100).records
    counts = [
        one.asset_materialization.metadata["dagster/row_count"].value for one in records if one.asset_materialization
    ]
    assert sum(map(int, map(str, counts))) == 5 and len(counts) == 5, "each session counts its own bars"
    assert "not_a_session" in str(shown["rejections_by_rule"].value)
    for picture in ("coverage", "rejected_rows", "flagged_bars"):
        assert "/candlecast/pictures/" in str(shown[picture].value)


def test_a_new_day_makes_only_its_session_pending_and_changes_only_its_data_version(tmp_path: Path) -> None:
    write(tmp_path, "bars.csv", *LINES[:4])
    stage = MarketStage(tmp_path)
    stage.run("2012-01-03", "2012-01-09")
    write(tmp_path, "new.csv", LINES[4])
    assert stage.pending() == [date(2012, 1, 9)]
    stage.run("2012-01-09", "2012-01-09")
    assert stage.pending() == []
    assert len(stage.candlecast.warehouse.frame("FROM bars")) == 5


def test_a_history_of_invalid_rows_is_blocked_by_a_check_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path, "bars.csv", "AAPL,2012-01-07,10,11,9,10.5,1")
    result = MarketStage(tmp_path).run("2012-01-03", "2012-01-09", raise_on_error=False)
    assert not result.success
    failed = {
        check.check_name: str(check.description) for check in result.get_asset_check_evaluations() if not check.passed
    }
    assert set(failed) == {"every_symbol_has_bars", "few_rows_are_rejected"}
    assert "1 not_a_session (the exchange was closed" in failed["every_symbol_has_bars"]


def test_a_symbol_without_bars_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    write(tmp_path, "bars.csv", *LINES)
    result = MarketStage(tmp_path, symbols=("AAPL", "ZZZ")).run("2012-01-03", "2012-01-09", raise_on_error=False)
    (failed,) = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert "ZZZ" in str(failed.description)


def test_an_invalid_file_fails_the_run_by_name_and_the_others_are_ingested(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", *LINES[:3])
    stage = MarketStage(tmp_path)
    stage.run("2012-01-03", "2012-01-09")
    write(tmp_path, "c.csv", *LINES[3:])
    (tmp_path / "bars" / "b.csv").write_text("symbol,date,open,high,low,kurs,volume\nMSFT,2012-01-03,10,11,9,10.5,1\n")
    result = stage.run("2012-01-03", "2012-01-09", raise_on_error=False)
    assert not result.success
    (failed,) = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert "b.csv: no column for close" in str(failed.description)
    assert len(stage.candlecast.warehouse.frame("FROM bars")) == 5
    write(tmp_path, "b.csv", LINES[0].replace("AAPL", "MSFT"))
    assert stage.run("2012-01-03", "2012-01-09").success
    assert len(stage.candlecast.warehouse.frame("FROM bars")) == 6


@pytest.mark.parametrize("bad", ["", "symbol,date,open,high,low,kurs,volume\nMSFT,2012-01-03,10,11,9,10.5,1\n"])
def test_an_invalid_file_leaves_a_valid_one_pending(tmp_path: Path, bad: str) -> None:
    write(tmp_path, "a.csv", *LINES[:2])
    (tmp_path / "bars" / "b.csv").write_text(bad)
    stage = MarketStage(tmp_path)
    assert stage.pending() == [date(2012, 1, 3), date(2012, 1, 4)]
    assert not stage.run("2012-01-03", "2012-01-09", raise_on_error=False).success
    # An invalid file is reported by every run of the newest session.
    assert stage.pending() == [date(2012, 1, 9)]
    write(tmp_path, "c.csv", LINES[2])
    write(tmp_path, "d.csv", LINES[3])
    assert stage.pending() == [date(2012, 1, 5), date(2012, 1, 6)]
    write(tmp_path, "b.csv", LINES[0].replace("AAPL", "MSFT"))
    assert stage.pending() == [date(2012, 1, 3), date(2012, 1, 5), date(2012, 1, 6)]


def test_row_conservation_notices_a_lost_row(tmp_path: Path) -> None:
    write(tmp_path, "bars.csv", *LINES)
    stage = MarketStage(tmp_path)
    stage.run("2012-01-03", "2012-01-09")
    with stage.candlecast.warehouse.write() as connection:
        connection.execute("DELETE FROM bars WHERE session = DATE '2012-01-05'")
    result = stage.run("2012-01-03", "2012-01-09", raise_on_error=False)
    (failed,) = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert (failed.check_name, failed.blocking) == ("rows_are_conserved", True)
    assert "5 rows kept" in str(failed.description) and "4 bars" in str(failed.description)


@pytest.mark.parametrize("source", ["yahoo", "akshare", "ccxt"])
def test_a_network_source_needs_named_symbols(source: str) -> None:
    with pytest.raises(ValueError, match="symbols = "):
        MarketSettings(source=source)


DIVIDENDS = [f"{line},{cash}" for line, cash in zip(LINES, (0, 0, 0.5, 0, 0), strict=True)]


def ingested_without_actions(folder: Path) -> MarketStage:
    """A stage as a run leaves it that is killed between bars and corporate_actions."""
    write(folder, "bars.csv", *DIVIDENDS)
    text = (folder / "bars" / "bars.csv").read_text().replace(HEADER, f"{HEADER},dividend")
    (folder / "bars" / "bars.csv").write_text(text)
    stage = MarketStage(folder)
    parts = stage.candlecast
    wanted = wanted_by(stage.settings, date(2012, 1, 3), date(2012, 1, 9))
    land(Lake(parts.home), parts.warehouse, parts.source, wanted)
    ingest(Lake(parts.home), parts.warehouse)
    return stage


def test_actions_that_a_killed_run_left_out_are_pending(tmp_path: Path) -> None:
    stage = ingested_without_actions(tmp_path)
    assert actions_differ(stage.candlecast.warehouse) == ActionChanges(added=1, withdrawn=0, total=1)
    assert stage.pending() == [date(2012, 1, 9)]
    stage.run("2012-01-09", "2012-01-09")
    assert actions_differ(stage.candlecast.warehouse) is None
    assert len(stage.candlecast.warehouse.frame("FROM corporate_actions")) == 1
    assert stage.pending() == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("DELETE FROM corporate_actions", "actions_follow_from_bars"),
        ("UPDATE payloads SET kept = kept + 1", "rows_are_conserved"),
        ("UPDATE bars SET low = 2 * high", "bars_satisfy_the_contract"),
        ("DELETE FROM bars", "every_symbol_has_bars"),
    ],
)
def test_a_later_stage_is_blocked_by_bars_that_do_not_pass(tmp_path: Path, change: str, check: str) -> None:
    """Although the run has no asset of the market: one that failed or was killed before may have left them."""
    stage = ingested_without_actions(tmp_path)
    stage.run("2012-01-09", "2012-01-09")

    @dg.asset(deps=["bars", "corporate_actions"])
    def model() -> None:
        pass

    built = [*build_assets(stage.sessions), model]
    checks = [item for item in built if isinstance(item, dg.AssetChecksDefinition)]
    defs = dg.Definitions(
        assets=[item for item in built if item not in checks],
        asset_checks=checks,
        resources={"candlecast": stage.candlecast},
        jobs=[dg.define_asset_job("train", selection=dg.AssetSelection.assets("model") | gate())],
    )
    job = defs.resolve_job_def("train")
    assert job.execute_in_process(instance=stage.instance).success
    with stage.candlecast.warehouse.write() as connection:
        connection.execute(change)
    blocked = job.execute_in_process(instance=stage.instance, raise_on_error=False)
    assert check in {found.check_name for found in blocked.get_asset_check_evaluations() if not found.passed}
    assert not blocked.success and not blocked.get_asset_materialization_events()
