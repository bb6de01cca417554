"""SQL scripts that lie beside the modules that run them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load_sql(package: str, name: str) -> str:
    """The text of one `.sql` file of a package.

    Args:
        package: dotted name of the folder, e.g. `"assets.market.ingest"`.
        name: file name, e.g. `"contract.sql"`.
    """
    return files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def load_scripts(package: str) -> dict[str, str]:
    """The text of every `.sql` file of a package by file name, in order of the names."""
    found = sorted(
        (file for file in files(package).iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return {file.name: file.read_text(encoding="utf-8") for file in found}
