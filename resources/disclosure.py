"""What may leave the process: settings as reports show them, and texts without secrets.

Reports, metadata and logs are passed on. So folders of this machine are shown relative to the settings file or by the
last part of their name, and of a warehouse's URI only its scheme.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from resources.settings import Settings

CONCEALED = "…"
_LOADED = {"root", "home", "secrets"}
# Two letters or more: one letter is a Windows drive.
_URI = re.compile(r"^([A-Za-z][A-Za-z0-9+_]+):")
_CREDENTIALS = re.compile(
    r"""(?:password|passwd|pwd|token|secret|key)\w*\s*[=:]\s*['"]?([^\s&;,'"]+)|//[^/:@\s]*:([^@\s]+)@""", re.IGNORECASE
)


def scheme_of(location: str) -> str | None:
    """The scheme of a URI, such as "md"; None for a path."""
    found = _URI.match(location)
    return found[1] if found else None


def conceal(text: str, location: str) -> str:
    """A text without the URI of the warehouse and without the credentials in it."""
    scheme = scheme_of(location)
    if scheme is None:
        return text
    rest = location.removeprefix(f"{scheme}:")
    credentials = [one for found in _CREDENTIALS.findall(location) for one in found if one]
    for part in (rest.replace("'", "''"), rest, *sorted(credentials, key=len, reverse=True)):
        text = text.replace(part, CONCEALED) if part else text
    return text


def shown_path(path: str, root: Path) -> str:
    """A path of the settings as messages name it: relative to the settings file, or the last part of one elsewhere."""
    absolute = Path(path).expanduser()
    if not absolute.is_absolute():
        return path
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else absolute.name


def public_settings(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values for a report: without secrets and folders of this machine."""
    values = settings.model_dump(mode="json", exclude=_LOADED)
    if settings.warehouse is not None:
        location = settings.warehouse.get_secret_value()
        scheme = scheme_of(location)
        values["warehouse"] = f"{scheme}:{CONCEALED}" if scheme else shown_path(location, settings.root)
    return {name: _without_folders(value, settings.root) for name, value in values.items()}


def _without_folders(value: Any, root: Path) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(one, root) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one, root) for one in value]
    return shown_path(value, root) if isinstance(value, str) and value.startswith(("/", "~")) else value
