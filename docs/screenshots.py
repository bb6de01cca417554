"""The README's pictures by headless Chromium: the graph, an asset's page, the report.

`make screenshots` after `make run`. Serves the same home as the run, on a free port of this machine alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration.cli.artifacts import newest_report
from orchestration.cli.instance import copy_instance_file
from resources.layout import Home
from resources.profiles import load_settings
from resources.settings import Settings

HERE = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WORKSPACE = HERE.parent / "workspace.yaml"
START_SECONDS = 120
# The graph is laid out by a worker after the page has loaded.
DRAW_MILLISECONDS = 45_000


def main() -> None:
    """Take every picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asset", default="kronos_predictor", help="the asset whose page is shown")
    asset = parser.parse_args().asset
    settings = load_settings()
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit("no Chromium on this machine: install it, e.g. apt-get install chromium")
    report = Path(newest_report(settings)["report"]).as_uri()
    shoot(browser, report, HERE / "report.png", 1180, 1500)
    with dagster(settings) as address:
        # Groups closed: with all of them open the graph is wider and higher than a window shows.
        shoot(browser, f"{address}/asset-groups", HERE / "graph.png", 2000, 900)
        shoot(browser, f"{address}/assets/{asset}?view=overview", HERE / "asset.png", 1500, 1700)


def shoot(browser: str, address: str, picture: Path, width: int, height: int) -> None:
    """One page as PNG, `width` × `height` pixels."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}",
                f"--timeout={DRAW_MILLISECONDS}", f"--virtual-time-budget={DRAW_MILLISECONDS}",
                f"--screenshot={picture}", address,
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )  # fmt: skip
    sys.stderr.write(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB\n")


@contextmanager
def dagster(settings: Settings) -> Iterator[str]:
    """The address of Dagster's webserver over the run's home, which serves inside the block."""
    folder = Home(settings.home).dagster
    copy_instance_file(settings.root, folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "DAGSTER_HOME": str(folder), "CANDLECAST_HOME": str(settings.home)}
    command = [sys.executable, "-m", "orchestration.webserver", "-w", str(WORKSPACE), "-p", str(port)]
    server = subprocess.Popen(
        command, env=environment, cwd=settings.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(f"http://127.0.0.1:{port}/server_info")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait(address: str) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main()
