"""The schema of a warehouse, and the migrations that bring an older one to it."""

from __future__ import annotations

import duckdb

from resources.errors import SchemaVersionError
from resources.sql import load_scripts, load_sql

SCHEMA = load_sql("resources", "schema.sql")
# By the schema version that each leads to. A script runs once in a home, and is never changed after a release.
MIGRATIONS = {int(name[:4]): script for name, script in load_scripts("resources.migrations").items()}
SCHEMA_VERSION = max(MIGRATIONS)


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The version of a database's schema; 0: it has no tables, 1: it is older than the table `schema_version`."""
    query = "SELECT table_name FROM information_schema.tables WHERE table_catalog = current_catalog()"
    tables = {name for (name,) in connection.execute(query).fetchall()}
    if "schema_version" in tables:
        return int(connection.execute("SELECT max(version) FROM schema_version").fetchall()[0][0])
    return 1 if tables else 0


def migrate(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Bring a database to the current schema: `migrations/NNNN_….sql` above its version, then `schema.sql`.

    Args:
        connection: read-write, inside a transaction.
        name: of the database, for errors.

    Raises:
        SchemaVersionError: its version is newer than this installation.
    """
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{name} has schema version {version}, this installation reads up to {SCHEMA_VERSION}: "
            "upgrade candlecast, or set another home with CANDLECAST_HOME"
        )
    for number, script in MIGRATIONS.items():
        if 0 < version < number:
            connection.execute(script)
    connection.execute(SCHEMA)
    if version != SCHEMA_VERSION:
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (?)", [SCHEMA_VERSION])
