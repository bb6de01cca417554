"""The market tables made anew from the lake alone: the proof that the lake holds everything."""

from __future__ import annotations

from pathlib import Path

from assets.market.actions import refresh_actions
from assets.market.ingest.ingest import Ingested, ingest
from assets.market.ingest.lake import Lake
from resources.progress import Progress, silent
from resources.publish import scratch_folder
from resources.warehouse import Warehouse

TABLES = ("bars", "superseded_bars", "rejected_bars", "payloads", "corporate_actions")


def rebuild(lake: Lake, warehouse: Warehouse, progress: Progress = silent) -> Ingested:
    """Replace the market tables by what the lake's batches give, in one transaction.

    Made beside the warehouse and then put in place, so a killed rebuild leaves the old tables.
    """
    with scratch_folder(lake.home.scratch / "rebuild") as folder:
        fresh = Warehouse(folder / "fresh.duckdb")
        done = ingest(lake, fresh, progress)
        refresh_actions(fresh)
        for table in TABLES:
            with fresh.read() as connection:
                connection.execute(f"COPY {table} TO {_literal(folder / f'{table}.parquet')} (FORMAT parquet)")
        with warehouse.write() as connection:
            for table in TABLES:
                connection.execute(f"DELETE FROM {table}")
                connection.execute(f"INSERT INTO {table} FROM read_parquet({_literal(folder / f'{table}.parquet')})")
    return done


def _literal(file: Path) -> str:
    # COPY takes no parameters.
    return "'" + str(file).replace("'", "''") + "'"
