"""The files of `candlecast forecast`: the quantiles as CSV, and fan charts as PNG.

A file of the user's that stands at the path is not overwritten: only a CSV or a PNG that may be an earlier one is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from assets.forecasting.filters import UsedCheckpoints, checkpoint_pairs
from assets.forecasting.intervals import MEDIAN, drawn_intervals
from assets.forecasting.plots import fan_chart, read_fan
from assets.market.history import read_histories
from orchestration.cli.forecast_origin import INDEX, ForecastOrigin
from resources.derived_models import is_recalibrated
from resources.publish import publish_bytes
from resources.warehouse import Warehouse

CSV_INDEX = ["symbol", "model", "checkpoint", "origin", "step", "target_ts", "field", "in_sample"]
PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
CSV_BEGINS = ",".join(CSV_INDEX[:6]).encode()
PLOTTED_SYMBOLS, COLUMNS = 8, 3
# A table of more columns does not fit on a terminal.
SHOWN_LEVELS = 7


@dataclass(frozen=True)
class ForecastFiles:
    """Where the forecasts go, beside the terminal; None: nowhere."""

    csv: Path | None = None
    plot: Path | None = None

    def problem(self) -> str | None:
        """Why the files cannot be written, before any work; None: they can."""
        if self.plot and self.plot.suffix.lower() != ".png":
            return f"--plot {self.plot}: the name of a PNG ends with .png"
        found = (output_problem("--csv", self.csv, CSV_BEGINS), output_problem("--plot", self.plot, PNG_BEGINS))
        return next(filter(None, found), None)

    def write(self, origin: ForecastOrigin, warehouse: Warehouse, used: UsedCheckpoints, frequency: str) -> list[str]:
        """Write the files, each completely or not at all; one line of text per file."""
        lines = []
        if self.csv:
            quantiles = origin.quantiles(warehouse, used, CSV_INDEX)
            publish_bytes(self.csv, quantiles.to_csv(index=False).encode())
            lines.append(f"{len(quantiles):,} rows: {self.csv}")
        if self.plot:
            symbols = origin.forecast_symbols(warehouse, used)
            shown = symbols[:PLOTTED_SYMBOLS]
            publish_bytes(self.plot, _fan_charts(origin, warehouse, used, shown, frequency))
            some = f", {len(shown)} of {len(symbols)} symbols; --symbols chooses" if len(symbols) > len(shown) else ""
            lines.append(f"fan charts{some}: {self.plot}")
        return lines


ON_TERMINAL = ForecastFiles()


def as_table(quantiles: pd.DataFrame) -> str:
    """Quantiles as text: all levels where they fit, else the median and the ends of the intervals of fan charts.

    Recalibrated models, which double the rows, are counted beside the others.
    """
    copies = quantiles["model"].map(is_recalibrated).astype(bool)
    shown, notes = quantiles if copies.all() else quantiles[~copies], list[str]()
    levels = {name: float(name) for name in quantiles.columns if name not in INDEX}
    if len(levels) > SHOWN_LEVELS:
        ends = {end for one in drawn_intervals(list(levels.values())) for end in (one.low, one.high)}
        kept = [name for name, level in levels.items() if level in ends | {MEDIAN}]
        shown = shown[[*INDEX, *kept]]
        notes.append(f"{len(kept)} of {len(levels)} levels")
    if len(shown) < len(quantiles):
        notes.append(f"without {quantiles.loc[copies, 'model'].nunique()} recalibrated models")
    text = shown.to_string(index=False)
    return f"{text}\n{', '.join(notes)}; --csv FILE and --json have all" if notes else text


def _fan_charts(
    origin: ForecastOrigin, warehouse: Warehouse, used: UsedCheckpoints, symbols: Sequence[str], frequency: str
) -> bytes:
    histories = read_histories(warehouse, frequency, symbols)
    in_sample, moment = origin.in_sample(warehouse, used), origin.timestamp.astype("datetime64[s]")
    found = [
        read_fan(warehouse, histories[symbol], model, checkpoint, moment, in_sample[model])
        for symbol in symbols
        for model, checkpoint in checkpoint_pairs(used)
        if model in in_sample and not is_recalibrated(model)
    ]
    fans = [fan for fan in found if fan is not None]
    return fan_chart(fans, columns=min(COLUMNS, len(fans)))


def output_problem(option: str, file: Path | None, begins: bytes) -> str | None:
    """Why a file of forecasts cannot be written; None: it can.

    Args:
        begins: the first bytes of such a file, which an existing one may be.
    """
    if file is None:
        return None
    if not file.parent.is_dir():
        return f"{option} {file}: the folder {file.parent} does not exist; create it first"
    if file.is_dir():
        return f"{option} {file} is a folder: name a file in it"
    if file.exists() and file.read_bytes()[: len(begins)] not in (begins, b""):
        return (
            f"{option} {file} exists and holds no forecasts: choose another name, or move it away. The forecasts are "
            "written to this file"
        )
    return None
