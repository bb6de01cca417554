"""`candlecast settings`: every key with the value in use, its default, allowed values and meaning."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from resources.settings import Settings
from resources.settings_reference import SettingRow, settings_reference


@dataclass(frozen=True)
class ExplainedKey:
    """A key of the settings and its value in use."""

    row: SettingRow
    value: object

    @property
    def name(self) -> str:
        return ".".join(filter(None, (self.row.section, self.row.key)))

    @property
    def text(self) -> str:
        allowed = f"; allowed: {self.row.range}" if self.row.range else ""
        return (
            f"{self.name} = {self.value}\n    {self.row.description}\n"
            f"    {self.row.type}, default {self.row.default}{allowed}"
        )

    def as_json(self) -> dict[str, object]:
        """The key as a JSON object."""
        return {"name": self.name, "value": self.value, **asdict(self.row)}


def explain(settings: Settings, key: str) -> list[ExplainedKey]:
    """A key, all keys of a section, or, if empty, every key. Unknown: none."""
    values = settings.model_dump(mode="json")
    known = [one for row in settings_reference() for one in _with_values(row, values)]
    return [one for one in known if key in ("", one.row.section, one.row.section.partition(".")[0], one.name)]


def _with_values(row: SettingRow, values: Mapping[str, Any]) -> Iterator[ExplainedKey]:
    """The key with its value in use: one per table, where the section is a table of tables, such as models.NAME."""
    section, _, several = row.section.partition(".")
    if not several:
        yield ExplainedKey(row, (values[section] if section else values)[row.key])
        return
    for name, table in values[section].items():
        yield ExplainedKey(replace(row, section=f"{section}.{name}"), table[row.key])
    if not values[section]:
        yield ExplainedKey(row, "unset")
