"""What is lost of a file is reported by name, with rules and examples; too much of it stops the run."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets.market.outcomes import FileOutcome, excess_rejections, file_outcomes
from tests.market.market_desk import HEADER, Desk
from tests.market.test_market_assets import LINES, MarketStage, write

SUNDAY = "AAPL,2012-01-08,10,11,9,10.5,1"
UPSIDE_DOWN = "AAPL,2012-01-10,10,9,11,10.5,1"


def _only(desk: Desk) -> FileOutcome:
    (outcome,) = file_outcomes(desk.warehouse, desk.lake, "1d")
    return outcome


def test_a_file_is_reported_with_counts_rules_examples_and_ignored_columns(desk: Desk) -> None:
    lines = [f"{line},n" for line in (*LINES, LINES[0], SUNDAY, UPSIDE_DOWN)]
    desk.ingest_text("\n".join([f"{HEADER},note", *lines]))
    outcome = _only(desk)
    assert (outcome.received, outcome.kept, outcome.folded, outcome.rejected, outcome.lost) == (8, 5, 1, 2, 2)
    assert "1 not_a_session, e.g. row 7 (AAPL 2012-01-08 10" in outcome.rules
    assert "1 low_above_high, e.g. row 8" in outcome.rules
    assert outcome.ignored == ("note",)
    assert all(part in outcome.text for part in ("bars.csv", "25.0%", "note", "row 8"))


def test_a_cell_that_is_no_number_is_reported_with_its_column(desk: Desk) -> None:
    lines = [*LINES[:3], "AAPL,2012-01-06,10,11,9,10.5,9 lots"]
    desk.ingest_text("\n".join([HEADER.replace("volume", "Vol."), *lines]))
    assert "row 4, column 'Vol.', '9 lots'" in _only(desk).rules
    assert "column 'Vol.', '9 lots'" in str(desk.rejected()["reason"][0])


def test_ignored_columns_are_those_that_the_ingest_ignores(desk: Desk) -> None:
    desk.ingest_text("\n".join([f"{HEADER},turnover", *(f"{line},1.2" for line in LINES)]))
    assert desk.bars()["amount"].isna().all()
    assert _only(desk).ignored == ("turnover",)


def test_the_columns_of_a_payload_are_looked_up_once_and_those_of_a_changed_file_again(desk: Desk) -> None:
    desk.ingest_text("\n".join([f"{HEADER},note", *(f"{line},n" for line in LINES)]))
    assert _only(desk).ignored == ("note",)
    for file in (desk.lake.home.lake / desk.source.name).glob("*.parquet"):
        file.rename(file.with_suffix(".moved"))
    assert _only(desk).ignored == ("note",)
    desk.ingest_text("\n".join([f"{HEADER},remark", *(f"{line},n" for line in LINES)]))
    assert _only(desk).ignored == ("remark",)


def test_only_the_newest_version_of_a_file_counts(desk: Desk) -> None:
    desk.ingest_text("\n".join([HEADER, *LINES, SUNDAY]))
    assert excess_rejections(desk.warehouse, "1d", 0.05)
    desk.ingest_text("\n".join([HEADER, *LINES]))
    assert excess_rejections(desk.warehouse, "1d", 0) == []
    assert _only(desk).rejected == 0


@pytest.mark.parametrize(("limit", "passes"), [(0.16, False), (0.17, True), (1.0, True), (0.0, False)])
def test_a_run_stops_where_a_file_lost_more_than_the_setting_allows(tmp_path: Path, limit: float, passes: bool) -> None:
    write(tmp_path, "bad.csv", *LINES, SUNDAY)
    result = MarketStage(tmp_path, max_rejected=limit).run("2012-01-03", "2012-01-09", raise_on_error=False)
    assert result.success is passes
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [check.check_name for check in failed] == ([] if passes else ["few_rows_are_rejected"])
    for check in failed:
        assert all(part in str(check.description) for part in ("bad.csv", "not_a_session", "market.max_rejected"))
        assert check.severity == dg.AssetCheckSeverity.ERROR


def test_the_page_of_bars_lists_every_file(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", *LINES)
    write(tmp_path, "b.csv", *[line.replace("AAPL", "MSFT") for line in LINES], SUNDAY)
    stage = MarketStage(tmp_path, max_rejected=0.5)
    stage.run("2012-01-03", "2012-01-09")
    event = stage.instance.get_latest_materialization_event(dg.AssetKey("bars"))
    assert event is not None
    assert event.asset_materialization is not None
    shown = str(event.asset_materialization.metadata["files"].value)
    assert "a.csv" in shown
    assert "row 6" in shown
