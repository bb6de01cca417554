"""`candlecast ui`: Dagster's webserver and daemon over the same home and settings."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from orchestration.cli.headless import dagster_folder, open_instance
from resources.errors import CandlecastError
from resources.layout import Home
from resources.profiles import ENV_FILE, ENV_HOME, ENV_PROFILE, SETTINGS_FILE
from resources.settings import Settings

WORKSPACE = Path(__file__).resolve().parents[2] / "workspace.yaml"


def _code_location() -> list[str]:
    # Installed as a wheel there is no workspace.yaml beside the packages.
    return ["-w", str(WORKSPACE)] if WORKSPACE.is_file() else ["-m", "orchestration.definitions"]


def serve(settings: Settings, host: str, port: int, file: Path | None) -> NoReturn:
    """Serve until stopped, as Dagster: this process becomes it.

    Args:
        file: the settings file named on the command line, if one was.

    Raises:
        CandlecastError: the home folder cannot be written, or the port is taken.
    """
    _refuse_taken(host, port)
    # Dagster's webserver and daemon would make its tables at the same moment. DAGSTER_HOME is set from here on.
    open_instance(settings).dispose()
    named = file or Path(os.environ.get(ENV_FILE) or settings.root / SETTINGS_FILE)
    environment = {
        "PYTHONWARNINGS": "ignore:Function `dev_command` is superseded",
        **os.environ,
        ENV_HOME: str(settings.home),
        ENV_PROFILE: settings.profile,
        ENV_FILE: str(named.absolute()),
    }
    shows = f"http://{host}:{port} shows the graph of profile {settings.profile!r} in about 20 seconds"
    sys.stderr.write(f"{shows}; Ctrl-C ends it\n")
    command = [sys.executable, "-m", "dagster", "dev", *_code_location(), "-h", host, "-p", str(port)]
    sys.stderr.flush()
    # Beside the settings there is a dagster.yaml, which Dagster would warn of: the one in use is the home's.
    os.chdir(dagster_folder(Home(settings.home)))
    # Not a child: whoever stops this process by its id would leave the webserver, the daemon and their servers behind.
    os.execve(sys.executable, command, environment)


def _refuse_taken(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), reuse_port=False):
            return
    except OSError as error:
        raise CandlecastError(
            f"{host}:{port} cannot be served on: {os.strerror(error.errno or 0)}. End what listens there, or choose "
            "another --port"
        ) from None
