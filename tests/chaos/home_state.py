"""The state of a home as digests: every table, and every file that a rerun must reproduce."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb

# When a row or payload arrived, which differs between two homes.
VOLATILE_COLUMNS = frozenset({"available_at", "made_at", "superseded_at"})
# Seconds and memory of forecasts.
VOLATILE_TABLES = frozenset({"forecast_costs"})
FOLDERS = ("lake", "windows", "checkpoints", "paths", "drift", "qlib", "backtests", "reports")
# They hold times of day or windows per second; lock files are empty. The digest of a report covers them.
VOLATILE_FILES = ("lake/**/*.json", "**/*.lock", "lake/.lock", "**/card.json", "**/README.md", "reports/*/.sha256")


def home_state(home: Path) -> dict[str, str]:
    """Digests by name: `table <name>` and `<path of a file>`."""
    return {**_tables(home / "warehouse.duckdb"), **_files(home), **_left_behind(home)}


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """The names whose digests differ, or which only one side has."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def _tables(warehouse: Path) -> dict[str, str]:
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        names = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return {f"table {name}": _table(connection, name) for name in names if name not in VOLATILE_TABLES}


def _table(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    columns = [row[0] for row in connection.execute(f'DESCRIBE "{name}"').fetchall() if row[0] not in VOLATILE_COLUMNS]
    listed = ", ".join(f'"{column}"' for column in columns)
    rows = connection.execute(f'SELECT {listed} FROM "{name}" ORDER BY ALL').fetchall()
    return f"{len(rows)} rows {hashlib.sha256(repr(rows).encode()).hexdigest()[:16]}"


def _files(home: Path) -> dict[str, str]:
    volatile = {file for pattern in VOLATILE_FILES for file in home.glob(pattern)}
    files = [file for folder in FOLDERS for file in (home / folder).rglob("*") if file.is_file()]
    found = {file.relative_to(home).as_posix(): file.read_bytes() for file in files if file not in volatile}
    for number, report in enumerate(sorted((home / "reports").glob("*/")), 1):
        name, other = report.name, f"report {number}"
        found = {
            path.replace(name, other): content.replace(name.encode(), b"").replace(name[:12].encode(), b"")
            if path.startswith("reports/")
            else content
            for path, content in found.items()
        }
    return {path: hashlib.sha256(content).hexdigest() for path, content in found.items()}


def _left_behind(home: Path) -> dict[str, str]:
    """Half-written files that nobody will finish, and artifacts that a run took for damaged."""
    left = [file for file in home.rglob(".*-*") if file.is_file()]
    left += [entry for entry in (home / "damaged").rglob("*") if entry.is_file()]
    return {f"left behind {file.relative_to(home).as_posix()}": "" for file in left}
