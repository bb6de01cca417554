"""`candlecast ui`: Dagster's webserver and daemon over the same home and settings."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from orchestration.cli.instance import create_dagster_home, open_instance
from resources.errors import CandlecastError
from resources.layout import Home
from resources.profiles import ENV_FILE, ENV_HOME, ENV_PROFILE, SETTINGS_FILE
from resources.settings import Settings

WORKSPACE = Path(__file__).resolve().parents[2] / "workspace.yaml"


def _code_location() -> list[str]:
    # An installed wheel has no workspace.yaml beside the packages.
    return ["-w", str(WORKSPACE)] if WORKSPACE.is_file() else ["-m", "orchestration.definitions"]


def serve(settings: Settings, host: str, port: int, file: Path | None) -> NoReturn:
    """Replace this process by `dagster dev`, which serves until it is stopped.

    Args:
        file: the settings file of --settings, if given.

    Raises:
        CandlecastError: the home folder is not writable, or the port is in use.
    """
    _require_free(host, port)
    # Dagster's webserver and daemon would create its tables concurrently. This sets DAGSTER_HOME as well.
    open_instance(settings).dispose()
    named = file or Path(os.environ.get(ENV_FILE) or settings.root / SETTINGS_FILE)
    environment = {
        "PYTHONWARNINGS": "ignore:Function `dev_command` is superseded",
        **os.environ,
        ENV_HOME: str(settings.home),
        ENV_PROFILE: settings.profile,
        ENV_FILE: str(named.absolute()),
    }
    sys.stderr.write(
        f"http://{host}:{port} serves profile {settings.profile!r} in about 20 seconds; press Ctrl-C to stop\n"
    )
    command = [sys.executable, "-m", "dagster", "dev", *_code_location(), "-h", host, "-p", str(port)]
    sys.stderr.flush()
    # Dagster warns about a dagster.yaml in the working folder that it does not use; it uses the home's.
    os.chdir(create_dagster_home(Home(settings.home)))
    # Not a child process: a signal to this process id must also end the webserver, the daemon and their servers.
    os.execve(sys.executable, command, environment)


def _require_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), reuse_port=False):
            return
    except OSError as error:
        raise CandlecastError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}. Stop the process that listens there, "
            "or choose another --port"
        ) from None
