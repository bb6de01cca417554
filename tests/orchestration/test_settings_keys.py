"""`candlecast settings` explains keys with the values in use."""

from pathlib import Path

from orchestration.cli.settings_keys import explain
from resources.settings import MarketSettings, Settings


def test_a_key_is_explained_with_its_value_default_and_range(tmp_path: Path) -> None:
    settings = Settings(market=MarketSettings(max_rejected=0.2), root=tmp_path, home=tmp_path)
    (one,) = explain(settings, "market.max_rejected")
    assert (one.value, one.row.default) == (0.2, "0.05")
    assert all(part in one.text for part in ("market.max_rejected = 0.2", "default 0.05", "≤"))
    assert {found.row.section for found in explain(settings, "windows")} == {"windows"}
    assert len(explain(settings, "")) > 50
    assert explain(settings, "market.nonsense") == []
