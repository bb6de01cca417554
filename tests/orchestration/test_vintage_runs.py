"""Two yearly vintages from the bars to the report: no forecast uses weights that may have seen its origin."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import duckdb
import pytest

from resources.checkpoints import CheckpointStore, Kind
from resources.layout import Home
from tests.orchestration.cli_project import SMALL, CliProject

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]
RANGES = """
vintage = "year"
train = [2007-01-01, 2007-12-31]
validation = [2008-01-01, 2008-12-31]
test = [2009-01-01, 2010-12-31]
"""
KINDS: tuple[Kind, ...] = ("kronos_tokenizer", "kronos_predictor", "chronos2_model", "volatility_model")
VINTAGES = (date(2009, 1, 1), date(2010, 1, 1))
FORECASTS = """
SELECT f.model, f.origin::DATE AS session, r.weights, f.in_sample
FROM forecasts f JOIN forecast_recipes r USING (model, checkpoint) WHERE f.model IN ('kronos', 'chronos2', 'volatility')
"""


def project(folder: Path, end: str = "2010-12-31") -> CliProject:
    folder.mkdir()
    lines = [line for line in SMALL.splitlines() if not line.startswith(("train =", "validation =", "test ="))]
    text = "\n".join(lines).replace("max_context = 64", f"max_context = 64{RANGES}").replace("2010-12-31", end)
    return CliProject(folder, text)


def digests(home: Path, vintage: date) -> list[str | None]:
    return [CheckpointStore(Home(home), vintage=vintage).current_digest(kind) for kind in KINDS]


def test_a_backfill_by_vintages_is_out_of_sample(tmp_path: Path) -> None:
    whole = project(tmp_path / "whole")
    done = whole.call("backfill", "--from", "2009-01-01", "--to", "2010-12-31", "--assets", "*")
    assert done.returncode == 0, done.stderr
    store = CheckpointStore(Home(whole.home))
    cutoffs = {one.digest: one.cutoff for kind in KINDS for one in store.all(kind)}
    with duckdb.connect(str(whole.home / "warehouse.duckdb"), read_only=True) as connection:
        forecasts = connection.execute(FORECASTS).fetchall()
        board = connection.execute("SELECT model, n FROM scoreboard WHERE metric = 'crps' AND horizon = 0").fetchall()
    assert {(model, session.year) for model, session, _, _ in forecasts} == {
        (model, year) for model in ("kronos", "chronos2", "volatility") for year in (2009, 2010)
    }
    for _, session, weights, in_sample in forecasts:
        assert cutoffs[weights] == date(session.year - 1, 12, 31) and not in_sample
    assert len({n for _, n in board}) == 1, "the vintages of a model are one model with all origins"

    report = json.loads(next((whole.home / "reports").glob("*/report.json")).read_text())
    assert {kind: len(found) for kind, found in report["vintages"].items()} == dict.fromkeys(KINDS, 2)
    page = next((whole.home / "reports").glob("*/report.html")).read_text()
    assert "2008-12-31" in page and "2009-12-31" in page
    assert all(n for n in report["forecasts_by"].values()) and len(report["forecasts_by"]["kronos"]) == 2
    assert whole.call("doctor").returncode == 0
    assert whole.call("lineage", report["digest"]).returncode == 0

    # Without the bars after the first vintage's date the weights of that vintage are the same.
    earlier = project(tmp_path / "earlier", "2009-03-31")
    done = earlier.call("train")
    assert done.returncode == 0, done.stderr
    assert digests(earlier.home, VINTAGES[0]) == digests(whole.home, VINTAGES[0])
    assert digests(earlier.home, VINTAGES[1]) == [None] * 4 != digests(whole.home, VINTAGES[1])
