"""Dagster's webserver behind the request guard, with the pictures and reports of the home.

`python -m orchestration.webserver` takes the options of `dagster-webserver`, and `python -m orchestration.webserver
dev` those of `dagster dev`, which starts the webserver as a child process. Neither command can wrap the application, so
`create_app_from_workspace_process_context` of dagster_webserver.cli and `open_ipc_subprocess` of dagster._cli.dev are
replaced; pyproject.toml caps Dagster's minor version.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestration.request_guard import ENV_HOSTS, RequestGuard
from orchestration.result_files import ResultFiles
from resources.profiles import ENV_HOME

DEV = "dev"
_DAGSTERS_OWN = "dagster_webserver"


def _serve() -> None:
    from dagster_webserver import cli

    module: Any = cli
    create = module.create_app_from_workspace_process_context

    def guarded(*arguments: Any, **options: Any) -> RequestGuard:
        # DAGSTER_HOME is a folder of the home.
        home = Path(os.environ.get(ENV_HOME) or Path(os.environ["DAGSTER_HOME"]).parent)
        app = ResultFiles(create(*arguments, **options), home)
        return RequestGuard(app, os.environ.get(ENV_HOSTS, "").split(","))

    module.create_app_from_workspace_process_context = guarded
    module.main()


def _serve_with_daemon(arguments: Sequence[str]) -> None:
    from dagster._cli import dev

    module: Any = dev
    module.open_ipc_subprocess = _guarding(module.open_ipc_subprocess)
    dev.dev_command.main(list(arguments), prog_name="dagster dev")


def _guarding(start: Callable[..., Any]) -> Callable[..., Any]:
    """Starts this module where Dagster starts its webserver."""

    def started(command: Sequence[str], **options: Any) -> Any:
        return start([__spec__.name if part == _DAGSTERS_OWN else part for part in command], **options)

    return started


if __name__ == "__main__":
    if sys.argv[1:2] == [DEV]:
        _serve_with_daemon(sys.argv[2:])
    else:
        _serve()
