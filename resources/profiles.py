"""Loading the settings: profiles of a TOML file, environment overrides, and the error text for a wrong value.

A profile inherits every key that it does not set from `sample`. `CANDLECAST__SECTION__KEY` overrides a single key.
The models with their keys, ranges and defaults are in `resources.settings`.
"""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import SettingsError as EnvironmentSettingsError

from resources.errors import SettingsError
from resources.settings import ENV_PREFIX, OverriddenSettings, Settings

logger = logging.getLogger("candlecast.settings")
SETTINGS_FILE = "candlecast.toml"
ENV_FILE, ENV_PROFILE, ENV_HOME = "CANDLECAST_SETTINGS", "CANDLECAST_PROFILE", "CANDLECAST_HOME"
# Bars in the training windows of the published weights.
PUBLISHED_CONTEXT = {"NeoQuasar/Kronos-mini": 2048, "NeoQuasar/Kronos-small": 512, "NeoQuasar/Kronos-base": 512}
# Set by the loader itself, so not allowed in a profile or as an override.
SET_BY_LOADER = frozenset({"profile", "root", "home"})


def load_settings(
    file: Path | str | None = None,
    profile: str | None = None,
    home: Path | str | None = None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
) -> Settings:
    """The settings of one profile.

    Args:
        file: the settings file; None: `CANDLECAST_SETTINGS`, else `candlecast.toml` in the working folder or the
            nearest folder above it.
        profile: None: `CANDLECAST_PROFILE`, else the `profile` key of the file, else "sample".
        home: None: `CANDLECAST_HOME`, else `data/` beside the settings file.
        overrides: values by section and key that replace those of the file and of the environment.

    Raises:
        SettingsError: a key or value is wrong; the message names the file, the key, the value and what is allowed.
    """
    path = _settings_path(file)
    content = _read_toml(path)
    _check_top_level(content, path)
    name = profile or os.environ.get(ENV_PROFILE) or content.get("profile", "sample")
    values = _inherit(content.get("profiles", {}), name, path)
    _check_environment()
    home_folder = Path(home or os.environ.get(ENV_HOME) or path.parent / "data").expanduser().absolute()
    misplaced = sorted(SET_BY_LOADER & set(values))
    if misplaced:
        raise SettingsError(
            f"{path}, profile {name!r}: {misplaced[0]} is not a key of a profile; choose the profile at the top of the "
            f"file or with --profile, the home with --home or {ENV_HOME}"
        )
    values |= _read_secrets(os.environ.get(f"{ENV_PREFIX}SECRETS") or values.get("secrets"), path)
    try:
        overridden = OverriddenSettings(**{**values, "profile": name, "root": path.parent, "home": home_folder})
        replaced = {name: dict(getattr(overridden, name)) | dict(keys) for name, keys in (overrides or {}).items()}
        settings = Settings(**(dict(overridden) | replaced))
    except ValidationError as error:
        raise SettingsError(_error_text(error, path, name)) from None
    except EnvironmentSettingsError as error:
        raise SettingsError(
            f"environment variable {ENV_PREFIX}… cannot be parsed: {error}. Write lists and tables as JSON: "
            f"""{ENV_PREFIX}WINDOWS__TRAIN='["2000-01-01", "2005-12-31"]'"""
        ) from None
    warn_about_context(settings)
    return settings


def warn_about_context(settings: Settings) -> None:
    """Log a warning where `windows.max_context` exceeds the training windows of the published weights in use."""
    trained = PUBLISHED_CONTEXT.get(settings.predictor.base)
    if trained is not None and settings.windows.max_context > trained:
        logger.warning(
            "windows.max_context is %d, and %s (predictor.base) was trained with windows of %d bars: what it does "
            "beyond is not known; set windows.max_context = %d",
            settings.windows.max_context, settings.predictor.base, trained, trained,
        )  # fmt: skip


def packaged_file(name: str) -> Path:
    """A file that is part of the project: in the repository's root, or in a wheel (setup.py) beside this module."""
    here = Path(__file__).resolve().parent
    return here / name if (here / name).is_file() else here.parent / name


def has_settings() -> bool:
    """Whether a settings file is found where none is named."""
    try:
        return _settings_path(None).is_file()
    except SettingsError:
        return bool(os.environ.get(ENV_FILE))


def _settings_path(file: Path | str | None) -> Path:
    named = file or os.environ.get(ENV_FILE)
    if named:
        path = Path(named).expanduser().absolute()
        if not path.is_file():
            raise SettingsError(f"settings file {path} does not exist")
        return path
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parent.parent):
        if (folder / SETTINGS_FILE).is_file():
            return folder / SETTINGS_FILE
    raise SettingsError(f"no {SETTINGS_FILE} in {here} or above it: pass one with --settings or {ENV_FILE}")


def _read_secrets(named: object, settings_file: Path) -> dict[str, Any]:
    if not named:
        return {}
    path = settings_file.parent / Path(str(named)).expanduser()
    if not path.is_file():
        raise SettingsError(f"secrets = {str(named)!r}: the file does not exist")
    values = _read_toml(path)
    for key in values:
        if not _is_secret(key):
            secret = ", ".join(filter(_is_secret, Settings.model_fields))
            raise SettingsError(f"{path}: {key} is not a secret key, set it in {settings_file.name}; allowed: {secret}")
    return values


def _is_secret(key: str) -> bool:
    return key in Settings.model_fields and SecretStr in get_args(Settings.model_fields[key].annotation)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        # Some editors write a byte order mark, which TOML does not allow.
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    return content


def _check_top_level(content: Mapping[str, Any], path: Path) -> None:
    unknown = set(content) - {"profile", "profiles"}
    if unknown:
        raise SettingsError(
            f"{path}: unknown key {sorted(unknown)[0]!r} at the top level; allowed: profile, [profiles.NAME]"
        )
    if not isinstance(content.get("profile", ""), str):
        raise SettingsError(f"{path}: profile = {content['profile']!r} must be the name of a profile")
    if not isinstance(content.get("profiles", {}), dict) or not all(
        isinstance(p, dict) for p in content.get("profiles", {}).values()
    ):
        raise SettingsError(f"{path}: profiles must be tables, [profiles.NAME]")


def _inherit(profiles: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    if name != "sample" and name not in profiles:
        known = ", ".join(sorted({"sample", *profiles}))
        raise SettingsError(f"{path}: no profile {name!r}; available: {known}")
    base = merged_sections(_packaged_sample(path), profiles.get("sample", {}))
    if name == "sample":
        return base
    merged = merged_sections(base, profiles[name])
    if not isinstance(merged.get("market", {}), Mapping):
        raise SettingsError(f"{path}, profile {name!r}: market = {merged['market']!r} must be a table")
    if merged.get("market", {}).get("source") != base.get("market", {}).get("source"):
        # The last session of the sample's bars does not apply to another source.
        _drop_inherited_end(merged, profiles[name])
    return merged


def _packaged_sample(path: Path) -> Mapping[str, Any]:
    """The project's own sample profile, from which the profiles of every settings file inherit."""
    own = packaged_file(SETTINGS_FILE)
    if own == path or not own.is_file():
        return {}
    sample: Mapping[str, Any] = _read_toml(own).get("profiles", {}).get("sample", {})
    return sample


def _drop_inherited_end(merged: dict[str, Any], profile: Mapping[str, Any]) -> None:
    if "end" not in profile.get("market", {}):
        merged["market"] = {key: value for key, value in merged["market"].items() if key != "end"}


def merged_sections(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both settings, section by section; of two values of one key, that of `over`."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merged_sections(merged[key], value) if both else value
    return merged


def _check_environment() -> None:
    for variable in os.environ:
        if not variable.startswith(ENV_PREFIX):
            continue
        section, *keys = variable.removeprefix(ENV_PREFIX).lower().split("__")
        if section not in Settings.model_fields or section in SET_BY_LOADER:
            allowed = ", ".join(sorted(set(Settings.model_fields) - SET_BY_LOADER))
            raise SettingsError(f"environment variable {variable}: unknown section {section!r}; allowed: {allowed}")
        if keys and _section(section) is None:
            raise SettingsError(
                f"environment variable {variable}: {section} is one value and has no keys; set "
                f"{ENV_PREFIX}{section.upper()} instead"
            )


def _error_text(error: ValidationError, path: Path, profile: str) -> str:
    lines = [f"{path}, profile {profile!r}:"]
    for problem in error.errors():
        # pydantic adds the branch of a union to the location, as in "tuple[str, ...]".
        key = ".".join(str(part) for part in problem["loc"] if "[" not in str(part)) or "settings"
        given = (
            ""
            if _is_secret(key) or (problem["type"] in ("missing", "value_error") and isinstance(problem["input"], dict))
            else f" = {problem['input']!r}"
        )
        reason = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
        if problem["type"] == "extra_forbidden":
            reason = f"unknown key; allowed: {', '.join(_siblings(problem['loc']))}"
        lines.append(f"  {key}{given}: {reason}")
    return "\n".join(lines)


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    fields = Settings.model_fields
    if len(loc) < 2:
        return sorted(set(fields) - SET_BY_LOADER)
    section = _section(str(loc[0]))
    return sorted(section.model_fields) if section else []


def _section(name: str) -> type[BaseModel] | None:
    """The model of a section, or of each table of a section; none: it is one value."""
    kinds = (Settings.model_fields[name].annotation, *get_args(Settings.model_fields[name].annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
