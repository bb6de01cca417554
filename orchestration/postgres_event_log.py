"""Dagster's PostgreSQL event log with one planned event per run and a data version per partition.

https://docs.dagster.io/deployment/oss/dagster-yaml#dagster-storage. Dagster's own writes a planned event per session: a
launch of thirteen years took nine minutes to start. Tables and semantics are Dagster's. It needs the extra `postgres`.
"""

from collections.abc import Mapping
from typing import Any

from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config

from orchestration.event_log import CompactEventLog


class CompactPostgresEventLog(CompactEventLog, PostgresEventLogStorage):  # type: ignore[misc, unused-ignore]
    """`PostgresEventLogStorage` with the events of `CompactEventLog`."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Any:
        build: Any = cls
        return build(
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
            token_provider=get_token_provider_from_config(config_value),
        )
