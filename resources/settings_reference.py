"""Every key of the settings with its type, default, range and meaning, from the schema of the models.

Not here: the models (settings), and how values are loaded (profiles).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resources.profiles import SET_BY_LOADER
from resources.settings import Settings


@dataclass(frozen=True)
class SettingRow:
    """One key of the settings reference.

    Attributes:
        section: the TOML table; empty for a key at the top of a profile.
        type: "integer", "number", "boolean", "text", "date", "list of …", a literal value; alternatives with "or".
        default: as written in TOML; "unset" where there is none.
        range: the allowed values, e.g. "≥ 1", "> 0, ≤ 1", `"warn", "block" or "off"`; empty: any of the type.
    """

    section: str
    key: str
    type: str
    default: str
    range: str
    description: str


def settings_reference() -> list[SettingRow]:
    """Every key that a profile can set, in the order of the models."""
    schema = Settings.model_json_schema()
    rows = []
    for name, field in schema["properties"].items():
        if name in SET_BY_LOADER:
            continue
        # A table of tables, such as [models.NAME], is a section of as many names as one likes.
        table = field.get("additionalProperties", {})
        reference = field.get("$ref") or table.get("$ref")
        if reference is None:
            rows.append(_setting_row("", name, field))
            continue
        section = schema["$defs"][reference.rpartition("/")[2]]
        shown = f"{name}.NAME" if table else name
        rows += [_setting_row(shown, key, of_key) for key, of_key in section["properties"].items()]
    return rows


def _setting_row(section: str, key: str, schema: Mapping[str, Any]) -> SettingRow:
    branches = [branch for branch in schema.get("anyOf", [schema]) if branch.get("type") != "null"]
    ranges = [schema["range"]] if "range" in schema else [text for branch in branches if (text := _range_of(branch))]
    return SettingRow(
        section=section,
        key=key,
        type=" or ".join(dict.fromkeys(_type_of(branch) for branch in branches)),
        default=_default_of(schema),
        range="; ".join(ranges),
        description=schema.get("description", ""),
    )


def _type_of(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("format") in ("date", "path"):
        return str(schema["format"])
    kind = schema.get("type")
    if kind == "object":
        values = schema["additionalProperties"]
        return f"table of {_type_of(values) if isinstance(values, dict) else 'any value'}"
    if kind == "array":
        pair = schema.get("prefixItems")
        return f"[{', '.join(map(_type_of, pair))}]" if pair else f"list of {_type_of(schema['items'])}"
    return "text" if kind == "string" else str(kind)


def _default_of(schema: Mapping[str, Any]) -> str:
    if schema.get("default") is None:
        return "{}" if schema.get("type") == "object" else "unset"
    if "date" in _type_of(schema):
        return json.dumps(schema["default"]).replace('"', "")
    return json.dumps(schema["default"], ensure_ascii=False)


def _range_of(schema: Mapping[str, Any]) -> str:
    return ", ".join(_constraints(schema)) or (_range_of(schema["items"]) if "items" in schema else "")


def _constraints(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        *others, last = (json.dumps(value) for value in schema["enum"])
        yield f"{', '.join(others)} or {last}" if others else last
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    yield from (f"{sign} {json.dumps(schema[name])}" for name, sign in signs.items() if name in schema)
    if "pattern" in schema:
        yield f"matches {schema['pattern']}"
