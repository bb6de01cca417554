"""Metadata of the assets' pages is shown at once: tables, short lists, paths within the home."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets.backtests.assets import (
    DAY_COLUMNS,
    DAY_LINEAGE,
    PROVIDER_COLUMNS,
    PROVIDER_LINEAGE,
    SIGNAL_COLUMNS,
    signal_lineage,
)
from assets.evaluation.assets import BOARD_COLUMNS, BOARD_LINEAGE, SCORE_COLUMNS, score_lineage
from assets.evaluation.risk.assets import BACKTEST_COLUMNS, BACKTEST_LINEAGE, RISK_COLUMNS, risk_lineage
from assets.forecasts.assets import FORECAST_COLUMNS
from assets.forecasts.catalogue import FORECAST_ASSETS
from assets.market.assets import ACTION_COLUMNS, ACTION_LINEAGE, BAR_COLUMNS
from assets.metadata import (
    EMPTY,
    INLINE_CHARACTERS,
    PARTITION_VERSION,
    TABLE_ROWS,
    add_session_contents,
    add_to_newest_partition,
    column_lineage,
    home_path,
    inline_bullets,
    table,
)
from assets.training.model_card import card_text
from orchestration.build import build_defs
from resources.layout import Home
from resources.settings import Settings
from resources.settings_models import BUILT_IN_ASSETS


def test_a_table_has_typed_cells_and_counts_the_rows_that_it_leaves_out() -> None:
    frame = pd.DataFrame({"symbol": [f"S{row}" for row in range(TABLE_ROWS + 7)], "value": 0.123456, "n": 3})
    frame.loc[0, "value"] = np.nan
    shown = table(frame)
    assert [column.name for column in shown.schema.columns] == ["symbol", "value", "n"]
    assert shown.records[1].data == {"symbol": "S1", "value": 0.1235, "n": 3}
    assert shown.records[0].data["value"] == "–"
    assert "7" in str(shown.records[-1].data["symbol"])
    assert table(frame[:0]).records == []


def test_a_long_list_is_several_entries_that_are_short_enough() -> None:
    lines = [f"{number} " + "x" * 400 for number in range(5)]
    entries = inline_bullets("verdict", lines)
    assert list(entries) == ["verdict", "verdict_2", "verdict_3"]
    texts = [str(entry.md_str) for entry in entries.values()]
    assert all(len(text) <= INLINE_CHARACTERS for text in texts)
    assert "\n".join(texts) == "\n".join(f"- {line}" for line in lines)


@pytest.mark.parametrize("own", [True, False])
def test_contents_of_sessions_are_added_as_dagsters_own_function_adds_them(own: bool) -> None:
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(4)]
    contents = {days[1]: (7, "abc"), days[3]: (9, "def")}

    @dg.asset(
        partitions_def=dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05"),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def filled(context: dg.AssetExecutionContext) -> None:
        add_to_newest_partition(context, {"picture": "of all"})
        if own:
            add_session_contents(context, contents, days)
            return
        for day in days:
            rows, version = contents.get(day, (0, EMPTY))
            added = {"dagster/row_count": rows, PARTITION_VERSION: version}
            context.add_asset_metadata(added, partition_key=f"{day:%Y-%m-%d}")

    keys = {"dagster/asset_partition_range_start": f"{days[0]}", "dagster/asset_partition_range_end": f"{days[-1]}"}
    made = dg.materialize([filled], tags=keys).asset_materializations_for_node("filled")
    found = {one.partition: {name: value.value for name, value in one.metadata.items()} for one in made}
    expected = {
        f"{day}": {"dagster/row_count": rows, PARTITION_VERSION: version}
        for day, (rows, version) in zip(days, [(0, EMPTY), (7, "abc"), (0, EMPTY), (9, "def")], strict=True)
    }
    expected["2024-01-04"]["picture"] = "of all"
    assert found == expected


def test_paths_are_relative_to_the_home() -> None:
    assert home_path(Path("/srv/home/qlib/abc"), Home(Path("/srv/home"))).value == "qlib/abc"


def test_the_card_of_a_page_has_no_picture_of_a_file_that_the_page_lacks() -> None:
    shown = card_text("---\nlicense: mit\n---\n# Model\n\nText.\n\n![curves](curves.png)\n\n## Use\n")
    assert "png" not in shown and "license" not in shown
    assert "# Model" in shown and "## Use" in shown


COLUMNS: dict[str, dg.TableSchema] = {
    "bars": BAR_COLUMNS,
    "corporate_actions": ACTION_COLUMNS,
    **{asset.name: FORECAST_COLUMNS for asset in FORECAST_ASSETS},
    "forecast_scores": SCORE_COLUMNS,
    "scoreboard": BOARD_COLUMNS,
    "forecast_risk": RISK_COLUMNS,
    "risk_backtest": BACKTEST_COLUMNS,
    "signals": SIGNAL_COLUMNS,
    "qlib_provider": PROVIDER_COLUMNS,
    "backtest_report": DAY_COLUMNS,
}
LINEAGES: dict[str, dg.TableColumnLineage] = {
    "corporate_actions": ACTION_LINEAGE,
    **{asset.name: column_lineage(asset.sources) for asset in FORECAST_ASSETS},
    "forecast_scores": score_lineage(BUILT_IN_ASSETS),
    "scoreboard": BOARD_LINEAGE,
    "forecast_risk": risk_lineage(BUILT_IN_ASSETS),
    "risk_backtest": BACKTEST_LINEAGE,
    "signals": signal_lineage(BUILT_IN_ASSETS),
    "qlib_provider": PROVIDER_LINEAGE,
    "backtest_report": DAY_LINEAGE,
}


@pytest.mark.parametrize("asset", LINEAGES)
def test_the_lineage_of_columns_names_columns_of_upstream_assets(asset: str) -> None:
    graph = build_defs(settings=Settings()).resolve_asset_graph()
    upstream = {key.to_user_string() for key in graph.get(dg.AssetKey(asset)).parent_keys}
    names = {table: {column.name for column in schema.columns} for table, schema in COLUMNS.items()}
    for column, sources in LINEAGES[asset].deps_by_column.items():
        assert column in names[asset]
        for source in sources:
            assert source.asset_key.to_user_string() in upstream
            assert source.column_name in names[source.asset_key.to_user_string()]
