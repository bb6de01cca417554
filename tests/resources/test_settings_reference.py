"""The settings reference lists every key with its type, default, range and meaning."""

import pytest

from resources.settings import ModelSettings, Section, Settings
from resources.settings_reference import SettingRow, settings_reference

ROWS = {(row.section, row.key): row for row in settings_reference()}


def test_every_key_of_every_section_is_listed_once_and_described() -> None:
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    keys = [
        (name, key)
        for name, section in sections.items()
        if isinstance(section, type) and issubclass(section, Section)
        for key in section.model_fields
    ] + [("models.NAME", key) for key in ModelSettings.model_fields]
    assert sorted(ROWS) == sorted([*keys, ("", "warehouse"), ("", "secrets"), ("", "seed")])
    assert len(settings_reference()) == len(ROWS)
    assert all(row.description.endswith(".") for row in ROWS.values())


@pytest.mark.parametrize(
    ("section", "key", "kind", "default", "allowed"),
    [
        ("", "seed", "integer", "7", "≥ 0, < 2147483648"),
        ("market", "symbols", 'list of text or "all"', '"all"', ""),
        ("market", "start", "date", "2000-03-01", ""),
        ("market", "columns", "table of text", "{}", ""),
        ("windows", "train", "[date, date]", "[2000-03-01, 2009-12-31]", ""),
        ("predictor", "learning_rate", "number", "0.001", "> 0, ≤ 1"),
        ("predictor", "patience", "integer", "3", "≥ 1"),
        ("promotion", "expires_days", "integer", "unset", "≥ 1"),
        ("models.NAME", "options", "table of any value", "{}", ""),
        ("drift", "action", "text", '"warn"', '"warn", "block" or "off"'),
        ("compute", "device", "text", '"auto"', '"auto", "cpu", "mps", "cuda" or "cuda:N"'),
    ],
)
def test_type_default_and_range_are_those_of_the_model(
    section: str, key: str, kind: str, default: str, allowed: str
) -> None:
    row: SettingRow = ROWS[section, key]
    assert (row.type, row.default, row.range) == (kind, default, allowed)
