"""Homes with simulated bars: any number of symbols and of years of forecasts and scores, and the next session's bars.

Bars are seeded random walks on the sessions of XNYS, with the same prices in every home. Weights are the packaged ones,
or as small and trained for a few steps where origins before 2011 are scored, which the packaged ones know.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.orchestration.processes import run_quietly
from resources.calendar import TradingCalendar

FIRST, LAST = date(2002, 1, 2), date(2025, 12, 31)
# The last session of a home when it is made. Those after it are added by `next_session`.
END = date(2025, 6, 30)
SIGMA, RANGE = 0.012, 0.006

SETTINGS = """\
profile = "simulated"

[profiles.simulated.market]
source = "files"
path = "bars/*.parquet"
calendar = "XNYS"
symbols = "all"
start = {start}
end = {last}

[profiles.simulated.windows]
train = [{start}, {train}]
validation = [{validation}, {validated}]
test = [{test}, {end}]
{models}"""
TRAINED = """
[profiles.simulated.tokenizer]
base = "none"
epochs = 1
steps_per_epoch = 10
max_reconstruction = 100
min_codebook_use = 0

[profiles.simulated.predictor]
base = "none"
epochs = 1
steps_per_epoch = 10
select_origins = 0

[profiles.simulated.chronos2]
base = "none"
steps = 10
evaluate_every = 10

[profiles.simulated.forecasts]
sample_count = 30
every = {every}
"""
PACKAGED = """
[profiles.simulated.tokenizer]
base = "packaged"
epochs = 0
max_reconstruction = 100
min_codebook_use = 0

[profiles.simulated.predictor]
base = "packaged"
epochs = 0

[profiles.simulated.chronos2]
base = "packaged"
mode = "zero-shot"
targets = ["standardised_close"]
past_covariates = ["range"]
"""


@cache
def simulated_sessions() -> pd.DatetimeIndex:
    """The sessions that have bars, of all homes together."""
    return TradingCalendar("XNYS").sessions(FIRST, LAST)


@cache
def simulated_bars(symbols: int) -> pd.DataFrame:
    """Daily bars of random walks with a common factor, ordered by date and symbol.

    The bars of a symbol do not depend on the number of symbols.
    """
    sessions = simulated_sessions()
    market = np.random.default_rng(0).standard_normal(len(sessions))
    frames = []
    for number in range(symbols):
        random = np.random.default_rng([1, number])
        own, gap, up, down = random.standard_normal((4, len(sessions)))
        closes = 50 * np.exp(np.cumsum(SIGMA * (0.6 * market + 0.8 * own)))
        opens = np.concatenate([[50.0], closes[:-1]]) * np.exp(RANGE * gap)
        bars = {
            "symbol": f"S{number:03}",
            "date": sessions,
            "open": opens,
            "high": np.maximum(opens, closes) * np.exp(RANGE * np.abs(up)),
            "low": np.minimum(opens, closes) * np.exp(-RANGE * np.abs(down)),
            "close": closes,
            "volume": np.round(1e6 * np.exp(0.3 * random.standard_normal(len(sessions)))),
        }
        frames.append(pd.DataFrame(bars))
    return pd.concat(frames).sort_values(["date", "symbol"], ignore_index=True)


@dataclass(frozen=True)
class SimulatedHome:
    """A folder with bars, settings and a home.

    Attributes:
        folder: holds `bars/`, `candlecast.toml` and the home `data/`.
    """

    folder: Path

    @classmethod
    def create(cls, folder: Path, symbols: int, years: int, models: str) -> SimulatedHome:
        """Write bars and settings: `years` of origins up to END, three years of training and validation before them.

        Args:
            models: the sections of the settings about models, as TRAINED or PACKAGED.
        """
        made, day = cls(folder), pd.Timedelta(days=1)
        test = pd.Timestamp(END) - pd.DateOffset(years=years) + day
        validation = test - pd.DateOffset(months=6)
        start = validation - pd.DateOffset(months=30)
        dates = {
            "start": start.date(), "train": (validation - day).date(), "validation": validation.date(),
            "validated": (test - day).date(), "test": test.date(), "end": END, "last": LAST,
        }  # fmt: skip
        (folder / "bars").mkdir(parents=True)
        made.settings.write_text(SETTINGS.format(**dates, models=models))
        bars = simulated_bars(symbols)
        kept = bars["date"].between(pd.Timestamp(dates["start"]), pd.Timestamp(END))
        bars[kept].to_parquet(folder / "bars/history.parquet")
        (folder / "simulated.json").write_text(json.dumps({"symbols": symbols}))
        return made

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.folder / "candlecast.toml"

    @property
    def home(self) -> Path:
        """The home folder of candlecast."""
        return self.folder / "data"

    def environment(self) -> dict[str, str]:
        """The environment of commands on this home."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CANDLECAST")}
        return {**kept, "CANDLECAST_SETTINGS": str(self.settings), "CANDLECAST_HOME": str(self.home)}

    def next_session(self) -> date:
        """Add the file of the next session's bars to the source, and return the session."""
        newest = max(pd.read_parquet(file, columns=["date"])["date"].max() for file in (self.folder / "bars").iterdir())
        sessions = simulated_sessions()
        session = sessions[sessions.searchsorted(newest, side="right")]
        bars = simulated_bars(json.loads((self.folder / "simulated.json").read_text())["symbols"])
        bars[bars["date"] == session].to_parquet(self.folder / f"bars/{session:%Y-%m-%d}.parquet")
        day: date = session.date()
        return day

    def call(self, *arguments: str) -> None:
        """Run a command of candlecast on this home.

        Raises:
            CalledProcessError: it failed.
        """
        run_quietly("-m", "orchestration", *arguments, environment=self.environment())
