"""`candlecast ui`: Dagster's webserver, behind the request guard, and its daemon, over the same home and settings."""

import os
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

import psutil

from orchestration.cli.instance import create_dagster_home, open_instance
from orchestration.request_guard import ENV_HOSTS
from orchestration.webserver import DEV
from resources.errors import CandlecastError
from resources.layout import Home
from resources.profiles import ENV_FILE, ENV_HOME, ENV_PROFILE, SETTINGS_FILE
from resources.settings import Settings

WORKSPACE = Path(__file__).resolve().parents[2] / "workspace.yaml"


def _code_location() -> list[str]:
    # An installed wheel has no workspace.yaml beside the packages.
    return ["-w", str(WORKSPACE)] if WORKSPACE.is_file() else ["-m", "orchestration.definitions"]


def serve(settings: Settings, host: str, port: int, allowed: Sequence[str], file: Path | None) -> NoReturn:
    """Replace this process by `dagster dev` with a guarded webserver, which serves until it is stopped.

    Args:
        allowed: names, beside `host` and those of the loopback interface, by which the server may be addressed.
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
        ENV_HOSTS: ",".join([*_names(host), *allowed, *filter(None, [os.environ.get(ENV_HOSTS)])]),
    }
    sys.stderr.write(
        f"http://{host}:{port} serves profile {settings.profile!r} in about 20 seconds; press Ctrl-C to stop\n"
    )
    command = [sys.executable, "-m", "orchestration.webserver", DEV, *_code_location(), "-h", host, "-p", str(port)]
    sys.stderr.flush()
    # Dagster warns about a dagster.yaml in the working folder that it does not use; it uses the home's.
    os.chdir(create_dagster_home(Home(settings.home)))
    # Not a child process: a signal to this process id must also end the webserver, the daemon and their servers.
    os.execve(sys.executable, command, environment)


def _names(host: str) -> list[str]:
    """The names of a host to listen on; those of this machine where it stands for all interfaces."""
    try:
        everywhere = ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    if not everywhere:
        return [host]
    addresses = [one.address for interface in psutil.net_if_addrs().values() for one in interface]
    return [socket.gethostname(), *(address.partition("%")[0] for address in addresses)]


def _require_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), reuse_port=False):
            return
    except OSError as error:
        raise CandlecastError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}. Stop the process that listens there, "
            "or choose another --port"
        ) from None
