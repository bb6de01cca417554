"""`candlecast ui`: Dagster's webserver and daemon over the same home and settings."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from orchestration.headless import open_instance
from resources.settings import ENV_FILE, ENV_HOME, ENV_PROFILE, Settings

WORKSPACE = Path(__file__).resolve().parent.parent / "workspace.yaml"


def _code_location() -> list[str]:
    # Installed as a wheel there is no workspace.yaml beside the packages.
    return ["-w", str(WORKSPACE)] if WORKSPACE.is_file() else ["-m", "orchestration.definitions"]


def serve(settings: Settings, host: str, port: int, file: Path | None) -> NoReturn:
    """Serve until stopped, as Dagster: this process becomes it.

    Args:
        file: the settings file named on the command line, if one was.

    Raises:
        CandlecastError: the home folder cannot be written.
    """
    # Dagster's webserver and daemon would make its tables at the same moment. DAGSTER_HOME is set from here on.
    open_instance(settings).dispose()
    environment = {
        **os.environ,
        ENV_HOME: str(settings.home),
        ENV_PROFILE: settings.profile,
        **({ENV_FILE: str(file.absolute())} if file else {}),
    }
    sys.stderr.write(f"http://{host}:{port} shows the graph of profile {settings.profile!r}; Ctrl-C ends it\n")
    command = [sys.executable, "-m", "dagster", "dev", *_code_location(), "-h", host, "-p", str(port)]
    sys.stderr.flush()
    os.chdir(settings.root)
    # Not a child: whoever stops this process by its id would leave the webserver, the daemon and their servers behind.
    os.execve(sys.executable, command, environment)
