"""Sections of a settings file as TOML text, to be pasted into it or written by `candlecast init`."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from resources.settings import MarketSettings

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def section(profile: str, name: str, values: Mapping[str, Any]) -> str:
    """One section of a profile; keys of [market] in the order of the settings' reference."""
    order = list(MarketSettings.model_fields)
    keys = sorted(values, key=lambda key: order.index(key) if key in order else len(order))
    lines = [f"{_key(key)} = {toml_value(values[key])}" for key in keys]
    return "\n".join([f"[profiles.{_key(profile)}.{name}]", *lines]) + "\n"


def toml_value(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {toml_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return json.dumps(value)


def _key(name: object) -> str:
    text = str(name)
    return text if _BARE_KEY.fullmatch(text) else json.dumps(text, ensure_ascii=False)
