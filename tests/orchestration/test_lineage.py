"""The lineage of a forecast: its weights, their tokenizer and windows, the bars and their files."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from assets.forecasts.catalogue import columns_read
from assets.metadata import column_lineage
from orchestration.cli.instance import INSTANCE_FILE
from orchestration.lineage import Lineage, Node
from orchestration.materialisations import INDEX_FILE, OWN_EVENT_LOG, DagsterRecords, SqliteRecords, parents_in
from resources.candlecast import Candlecast
from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError
from resources.layout import Home
from resources.settings import Settings
from resources.warehouse import Warehouse


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    home = Home(tmp_path)
    warehouse, store = Warehouse(home.warehouse), CheckpointStore(home)
    tokenizer = store.publish("kronos_tokenizer", {"r": 1}, lambda f: _put(f, "tokenizer"), {"data_hash": "w" * 64})
    predictor = store.publish(
        "kronos_predictor",
        {"r": 2},
        lambda f: _put(f, "predictor"),
        {"tokenizer": tokenizer.digest, "data_hash": "w" * 64},
    )
    made = f"{predictor.digest[:16]}-12345678"
    with warehouse.write() as connection:
        for sha, symbol, day in (("a", "IBM", "2010-12-31"), ("b", "IBM", "2011-01-03"), ("c", "AAPL", "2010-12-30")):
            _add_payload(connection, sha, symbol, day)
        for model, checkpoint, weights in (("kronos", made, predictor.digest), ("drift", "f" * 16, None)):
            connection.execute("INSERT INTO forecast_recipes VALUES (?, ?, ?, '{}')", [model, checkpoint, weights])
            connection.execute(
                "INSERT INTO forecasts VALUES (?, ?, 'IBM', '2010-12-31', now(), false, 0, NULL)", [model, checkpoint]
            )
            connection.execute(
                "INSERT INTO forecast_quantiles "
                "VALUES (?, ?, 'IBM', '2010-12-31', now(), 1, '2011-01-03', 'close', 0.5, 1.0, false)",
                [model, checkpoint],
            )
    folder = home.reports / ("e" * 64)
    folder.mkdir(parents=True)
    report = {
        "forecasts_by": {"kronos": made, "drift": "f" * 16},
        "checkpoints": {"kronos_predictor": predictor.digest},
    }
    (folder / "report.json").write_text(json.dumps(report))
    candlecast = Candlecast(Settings(home=home.root), warehouse=warehouse, checkpoints=store)
    return Lineage(candlecast, DagsterRecords(dg.Definitions(), dg.DagsterInstance.ephemeral()))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance in the home, with the event log that the command line configures."""
    folder = Home(tmp_path).dagster
    folder.mkdir()
    storage = {"event_log_storage": {**OWN_EVENT_LOG, "config": {"base_dir": str(folder / "history" / "runs")}}}
    with dg.DagsterInstance.local_temp(str(folder), overrides=storage) as instance:
        yield instance


def _of(lineage: Lineage, instance: dg.DagsterInstance, assets: Sequence[dg.AssetsDefinition], name: str) -> Node:
    """The lineage of an asset, which both readers of Dagster's records find."""
    defs = dg.Definitions(assets)
    file = Home(lineage.candlecast.home.root).dagster / INDEX_FILE
    by_sql = replace(lineage, records=SqliteRecords(file, lambda: parents_in(defs))).of(name)
    assert replace(lineage, records=DagsterRecords(defs, instance)).of(name) == by_sql
    return by_sql


def _add_payload(connection: duckdb.DuckDBPyConnection, sha: str, symbol: str, day: str) -> None:
    connection.execute(
        "INSERT INTO payloads BY NAME SELECT ? AS payload_sha256, 'files' AS source, ? AS request, ? AS file, "
        "1 AS received, 1 AS kept, 0 AS folded, 0 AS rejected, now() AS available_at, 1 AS batch, '1d' AS frequency",
        [sha, sha, f"{sha}.csv"],
    )
    connection.execute(
        "INSERT INTO bars BY NAME SELECT ? AS symbol, ?::DATE AS ts, ?::DATE AS session, '1d' AS frequency, 1 AS open, "
        "1 AS high, 1 AS low, 1 AS close, []::VARCHAR[] AS flags, 'files' AS source, ? AS payload_sha256, "
        "now() AS available_at, 1 AS batch",
        [symbol, day, day, sha],
    )


def _files(node: Node) -> list[str]:
    return [one.name for one in node.sources if one.name.startswith("file ")] + [
        name for one in node.sources for name in _files(one)
    ]


def _put(folder: Path, content: str) -> None:
    (folder / "model.safetensors").write_text(content)


def _names(node: Node, depth: int = 0) -> list[str]:
    return [
        f"{depth} {node.name.split(' ')[0]}",
        *(one for source in node.sources for one in _names(source, depth + 1)),
    ]


def test_a_forecast_leads_to_its_weights_tokenizer_windows_and_files(lineage: Lineage) -> None:
    (checkpoint,) = lineage.candlecast.checkpoints.all("kronos_predictor")
    row = lineage.candlecast.warehouse.frame("SELECT checkpoint FROM forecast_recipes WHERE model = 'kronos'")
    found = lineage.of(row["checkpoint"][0])
    assert _names(found) == [
        "0 forecasts",
        "1 kronos_predictor",
        "2 kronos_tokenizer",
        "3 training",
        "4 bars",
        *["5 file"] * 3,
        "2 training",
        "1 bars",
    ]
    assert checkpoint.digest in found.sources[0].name


def test_one_forecast_is_addressed_and_leads_to_the_files_of_its_bars(lineage: Lineage) -> None:
    found = lineage.of("drift/IBM/2010-12-31")
    assert (found.facts["checkpoint"], found.facts["forward"]) == ("f" * 16, "False")
    assert "learnt_from" not in found.facts, "it is not derived"
    with lineage.candlecast.warehouse.write() as connection:
        connection.execute("UPDATE forecasts SET made_at = '2010-12-31 23:00', learnt_from = 7 WHERE model = 'drift'")
    changed = lineage.of("drift/IBM/2010-12-31").facts
    assert changed["forward"] == "True" and changed["learnt_from"].startswith("7 ")
    assert _files(found) == ["file a.csv"], "neither a later bar nor another symbol"
    assert [node.name.split()[0] for node in lineage.of("kronos/IBM/2010-12-31").sources] == [
        "kronos_predictor",
        "bars",
    ]
    with pytest.raises(CandlecastError, match="kronos/IBM/2010-12-30"):
        lineage.of("kronos/IBM/2010-12-30")


def test_a_forecast_names_the_fields_and_tables_that_it_was_computed_from(lineage: Lineage) -> None:
    inputs = {"targets": ["log_return", "volume"], "past": ["market_return", "range"], "future": ["dividends", "month"]}
    rows = {"chronos2": {"inputs": inputs, "groups": "d" * 16}, "garch": {}, "garch_recalibrated": {}, "mine": {}}
    with lineage.candlecast.warehouse.write() as connection:
        for model, recipe in rows.items():
            checkpoint = f"{model:0<16.16}"
            values = [model, checkpoint, json.dumps(recipe)]
            connection.execute("INSERT INTO forecast_recipes VALUES (?, ?, NULL, ?)", values)
            connection.execute(
                "INSERT INTO forecasts VALUES (?, ?, 'IBM', '2010-12-31', now(), false, 0, NULL)", [model, checkpoint]
            )
    read = {model: lineage.of(f"{model}/IBM/2010-12-31").facts["reads"] for model in rows}
    assert read["chronos2"] == (
        "bars.high, bars.low, bars.close, bars.volume, corporate_actions.price_factor, corporate_actions.value, "
        "known_events.dividends, calendar.month, groups.group"
    )
    assert "bars.open" in read["garch"] and "volume" not in read["garch"] and "bars.amount" in read["mine"]
    assert read["garch_recalibrated"] == "forecast_quantiles.value"
    assert columns_read("chronos2", "{}") == "bars.close, corporate_actions.price_factor"


def test_an_asset_names_the_columns_that_it_was_made_of(lineage: Lineage, instance: dg.DagsterInstance) -> None:
    @dg.asset
    def forecasts() -> dg.MaterializeResult[None]:
        sources = {"value": ["bars.close", "holidays.kind"], "origin": ["bars.close"]}
        metadata = {"dagster/column_lineage": column_lineage(sources)}
        return dg.MaterializeResult(data_version=dg.DataVersion("one"), metadata=metadata)

    dg.materialize([forecasts], instance=instance)
    found = _of(lineage, instance, [forecasts], "forecasts")
    assert found.facts["reads"] == "bars.close, holidays.kind"


def test_a_payload_that_gave_no_bar_is_no_source(lineage: Lineage) -> None:
    with lineage.candlecast.warehouse.write() as connection:
        connection.execute("DELETE FROM bars WHERE payload_sha256 = 'b'")
    assert "file b.csv" not in _files(lineage.of("f" * 16))
    assert "file a.csv" in _files(lineage.of("f" * 16))


def test_every_forecast_of_a_report_has_sources_and_each_file_is_listed_once(lineage: Lineage) -> None:
    found = lineage.of("e" * 12)
    forecasts = [node for node in found.sources if node.name.startswith("forecasts of")]
    assert len(forecasts) == 2 and all(node.sources for node in forecasts)
    assert [node.name for node in forecasts[1].sources] == ["bars"], "a baseline has no weights"
    assert sum(name.endswith(" file") for name in _names(found)) == 3


def test_missing_weights_are_reported(lineage: Lineage) -> None:
    with lineage.candlecast.warehouse.write() as connection:
        connection.execute("UPDATE forecast_recipes SET weights = 'abc' WHERE model = 'kronos'")
    row = lineage.candlecast.warehouse.frame("SELECT checkpoint FROM forecast_recipes WHERE model = 'kronos'")
    assert lineage.of(row["checkpoint"][0]).sources[0].facts.keys() == {"state"}


@pytest.mark.parametrize("name", ["/tmp/reports/report.html", "**abcdefgh", "????????", "latest.json"])
def test_a_name_that_is_no_asset_and_no_digest_is_refused(lineage: Lineage, name: str) -> None:
    (lineage.candlecast.home.reports / "latest.json").write_text("{}")
    with pytest.raises(CandlecastError, match=re.escape(repr(name))):
        lineage.of(name)


def test_an_asset_leads_to_the_versions_that_it_read_and_not_to_newer_ones(
    lineage: Lineage, instance: dg.DagsterInstance
) -> None:
    version = "old"

    @dg.asset
    def scores() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(data_version=dg.DataVersion(version))

    @dg.asset(deps=[scores])
    def report() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(data_version=dg.DataVersion("one"))

    dg.materialize([scores, report], instance=instance)
    version = "new"
    dg.materialize([scores], instance=instance)
    found = _of(lineage, instance, [scores, report], "report")
    assert (found.facts["data_version"], found.sources[0].facts["data_version"]) == ("one", "old")
    assert _of(lineage, instance, [scores, report], "scores").facts["data_version"] == "new"
    instance.wipe_assets([dg.AssetKey("scores")])
    gone = _of(lineage, instance, [scores, report], "report").sources[0]
    assert "old" in gone.facts["state"]


def test_later_runs_do_not_change_what_a_report_was_made_from(lineage: Lineage, instance: dg.DagsterInstance) -> None:
    versions = {"bars": "1", "scores": "equal", "report": "fixed"}

    @dg.asset
    def bars() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(data_version=dg.DataVersion(versions["bars"]))

    @dg.asset(deps=[bars])
    def scores() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(data_version=dg.DataVersion(versions["scores"]))

    @dg.asset(deps=[scores])
    def report() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(data_version=dg.DataVersion(versions["report"]))

    graph = [bars, scores, report]
    dg.materialize(graph, instance=instance)
    before = _of(lineage, instance, graph, "report").as_json()
    # A bar that changes no score, and scores that are made again with it.
    versions["bars"] = "2"
    dg.materialize([bars, scores], instance=instance, selection=[bars, scores])
    assert _of(lineage, instance, graph, "report").as_json() == before
    dg.materialize(graph, instance=instance)
    assert _of(lineage, instance, graph, "report").as_json() == before
    assert _of(lineage, instance, graph, "bars").facts["data_version"] == "2"
    versions["report"] = "newer"
    dg.materialize(graph, instance=instance)
    newer = _of(lineage, instance, graph, "report")
    assert newer.facts["data_version"] == "newer"
    (scores_read,) = newer.sources
    assert scores_read.facts["data_version"] == "equal"
    assert scores_read.sources[0].facts["data_version"] == "2"


def test_an_asset_without_a_materialisation_is_known_by_the_graph(
    lineage: Lineage, instance: dg.DagsterInstance
) -> None:
    @dg.asset
    def bars() -> None: ...

    @dg.asset(deps=[bars])
    def scores() -> None: ...

    dg.materialize([bars], instance=instance)
    found = _of(lineage, instance, [bars, scores], "scores")
    assert found.facts == {"state": "never materialised"}
    assert [node.facts.keys() for node in found.sources] == [{"data_version", "run"}]
    with pytest.raises(CandlecastError, match="bars, scores"):
        _of(lineage, instance, [bars, scores], "other")


def test_records_of_another_storage_are_read_by_dagster(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    @dg.asset
    def bars() -> None: ...

    dg.materialize([bars], instance=instance)
    home, own = Home(tmp_path), f"event_log_storage: {json.dumps(OWN_EVENT_LOG)}"
    configured = home.dagster / INSTANCE_FILE
    configured.write_text(own)
    assert SqliteRecords.file(home) == home.dagster / INDEX_FILE
    other = f"{own}\nstorage: {{sqlite: {{base_dir: elsewhere}}}}"
    for text in ("", "[", "event_log_storage: {module: m, class: C}", other):
        configured.write_text(text)
        assert SqliteRecords.file(home) is None, text
    configured.write_text(own)
    (home.dagster / INDEX_FILE).write_bytes(b"damaged" * 1_000)
    assert SqliteRecords.file(home) is None
