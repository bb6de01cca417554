"""A small project for tests: the real sample bars of three symbols, models of a few thousand weights, few steps."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SMALL = """
[profiles.sample.market]
source = "sample"
symbols = ["AAPL", "IBM", "MSFT"]
start = 2007-01-01
end = 2010-12-31

[profiles.sample.windows]
lookback_window = 32
predict_window = 4
max_context = 64
train = [2007-01-01, 2008-12-31]
validation = [2009-01-15, 2009-12-31]
test = [2010-02-01, 2010-12-31]

[profiles.sample.tokenizer]
base = "none"
d_model = 16
ff_dim = 32
n_heads = 2
n_enc_layers = 2
n_dec_layers = 2
s1_bits = 4
s2_bits = 4
group_size = 4
max_reconstruction = 100
min_codebook_use = 0
epochs = 1
steps_per_epoch = 20

[profiles.sample.predictor]
base = "none"
d_model = 16
ff_dim = 32
n_heads = 2
n_layers = 1
epochs = 1
steps_per_epoch = 20

[profiles.sample.chronos2]
base = "none"
steps = 10
d_model = 16
d_ff = 32
num_layers = 1
num_heads = 2

[profiles.sample.forecasts]
every = 20
levels = [0.1, 0.25, 0.5, 0.75, 0.9]
sample_count = 30

[profiles.sample.evaluation]
bootstrap_draws = 100

[profiles.sample.backtest]
topk = 1
n_drop = 1

[profiles.sample.compute]
threads = 1
"""

# A command that prints its exit status and the modules of its process at the end.
RUN_COMMAND = """
import json, sys
started = []
sys.addaudithook(lambda event, values: started.append(str(values[1])) if event == "subprocess.Popen" else None)
from orchestration.cli.app import app
try:
    app()
except SystemExit as end:
    print()
    print(json.dumps([end.code, sorted(sys.modules), started]))
"""


class CliProject:
    """A folder with settings and a home, and the command line in it."""

    def __init__(self, folder: Path, text: str = SMALL) -> None:
        self.folder = folder
        self.file = folder / "candlecast.toml"
        self.file.write_text(text)
        self.home = folder / "home"

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CANDLECAST")}
        return {**kept, "CANDLECAST_SETTINGS": str(self.file), "CANDLECAST_HOME": str(self.home)}

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "orchestration", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The running command."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The completed command."""
        process = self.start(*arguments)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def modules_of(self, *arguments: str) -> set[str]:
        """The modules that the process of a command has imported at its end; it must succeed."""
        return set(self._traces_of(*arguments)[0])

    def children_of(self, *arguments: str) -> list[str]:
        """The commands of the processes that the process of a command has started; it must succeed."""
        return self._traces_of(*arguments)[1]

    def _traces_of(self, *arguments: str) -> tuple[list[str], list[str]]:
        """The modules that the process of a command has imported, and the processes that it has started."""
        done = subprocess.run(
            [sys.executable, "-c", RUN_COMMAND, *arguments],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        status, modules, started = json.loads(done.stdout.splitlines()[-1])
        assert status in (None, 0), done.stderr
        return modules, started

    @staticmethod
    def ended(process: subprocess.Popen[str], seconds: float) -> str:
        """Stderr of a command until it ends; one that does not end in time is killed, which fails the test."""
        try:
            return process.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows that `candlecast query` returns."""
        done = self.call("query", sql, "--format", "json")
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows
