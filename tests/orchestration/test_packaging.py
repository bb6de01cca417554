"""The distribution declares what its packages import, and its caps protect the private names that they use."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.forecasting.chronos2.compact import new_chronos2
from resources.settings import Chronos2Settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("orchestration", "assets", "resources", "kronos")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> dict[str, str]:
    """Requirement by distribution: of the packages and of the optional sources, without the extra `dev`."""
    extras = (lines for extra, lines in PROJECT["optional-dependencies"].items() if extra != "dev")
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return {_normalised(re.match(r"[\w.-]+", line)[0]): line for line in lines}  # type: ignore[index]


def _imported() -> Iterator[tuple[str, Path]]:
    """Every top-level module that a package imports, with the file."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                yield from ((name.split(".")[0], file.relative_to(ROOT)) for name in names)


def test_every_imported_distribution_is_declared() -> None:
    declared, providers = _declared(), packages_distributions()
    missing = {
        f"{name} (in {file})"
        for name, file in _imported()
        if name not in sys.stdlib_module_names
        and name not in PACKAGES
        and not {_normalised(one) for one in providers.get(name, [name])} & declared.keys()
    }
    assert not missing


def test_every_declared_version_is_pinned_in_the_constraints() -> None:
    pins = {
        _normalised(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    postgres = {"dagster-postgres", "psycopg2-binary"}  # installed in the image alone
    dev = {_normalised(re.match(r"[\w.-]+", line)[0]) for line in PROJECT["optional-dependencies"]["dev"]}  # type: ignore[index]
    assert (_declared().keys() | dev) - postgres <= pins


@pytest.mark.parametrize("name", ["dagster", "dagster-pipes", "dagster-webserver", "torch", "chronos-forecasting"])
def test_a_distribution_whose_private_names_are_used_is_capped_at_a_minor(name: str) -> None:
    assert re.search(r"<\d+\.\d+$", _declared()[name]), _declared()[name]


def _private(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError):
        pytest.fail(
            f"{module}.{name} is gone: keep chronos-forecasting at the minor before, or adapt assets/training/fit"
        )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("chronos.chronos2.trainer", "Chronos2Trainer"),
        ("chronos.chronos2.config", "Chronos2CoreConfig"),
        ("chronos.chronos2.model", "Chronos2Model"),
    ],
)
def test_the_private_names_of_chronos_exist(module: str, name: str) -> None:
    assert _private(module, name)


def test_chronos_fit_uses_the_trainer_that_resuming_replaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """assets/training/fit/chronos2_resume.py replaces the class for as long as `fit` runs."""
    _private("chronos.chronos2.trainer", "Chronos2Trainer")

    class TrainerCreatedError(RuntimeError):
        pass

    def replaced(*_: object, **__: object) -> None:
        raise TrainerCreatedError

    monkeypatch.setattr("chronos.chronos2.trainer.Chronos2Trainer", replaced)
    shape = Chronos2Settings(d_model=16, d_ff=32, num_layers=1, num_heads=2, context_length=32, patch_size=8)
    pipeline, series = new_chronos2(shape, 8), [np.arange(64, dtype=np.float32)]
    try:
        pipeline.fit(series, 8, context_length=32, min_past=8, num_steps=1, output_dir=tmp_path)
    except TrainerCreatedError:
        return
    pytest.fail("Chronos2Pipeline.fit no longer uses chronos.chronos2.trainer.Chronos2Trainer: see chronos2_resume.py")
