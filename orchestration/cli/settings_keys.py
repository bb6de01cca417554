"""`candlecast settings`: every key with the value in use, its default, allowed values and meaning."""

from dataclasses import asdict, dataclass

from resources.profiles import SettingRow, settings_reference
from resources.settings import Settings


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
    found = []
    for row in settings_reference():
        section = values[row.section] if row.section else values
        one = ExplainedKey(row, section[row.key])
        if key in ("", row.section, one.name):
            found.append(one)
    return found
