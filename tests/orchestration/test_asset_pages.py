"""Metadata of the assets' pages is shown at once: tables, short lists, paths within the home."""

from pathlib import Path

import numpy as np
import pandas as pd

from assets.metadata import INLINE_CHARACTERS, TABLE_ROWS, home_path, inline_bullets, table
from assets.training.model_card import card_text
from resources.layout import Home


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
    assert all(len(entry.md_str) <= INLINE_CHARACTERS for entry in entries.values())
    assert "\n".join(entry.md_str for entry in entries.values()) == "\n".join(f"- {line}" for line in lines)


def test_paths_are_relative_to_the_home() -> None:
    assert home_path(Path("/srv/home/qlib/abc"), Home(Path("/srv/home"))).value == "qlib/abc"


def test_the_card_of_a_page_has_no_picture_of_a_file_that_the_page_lacks() -> None:
    shown = card_text("---\nlicense: mit\n---\n# Model\n\nText.\n\n![curves](curves.png)\n\n## Use\n")
    assert "png" not in shown and "license" not in shown
    assert "# Model" in shown and "## Use" in shown
