"""The output of `candlecast predict`: forecasts as a table, CSV, Parquet or JSON, and fan charts as PNG.

Not here: how forecasts are made (assets.forecasting.series_forecast).
"""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from assets.forecasting.series.plots import series_chart
from assets.forecasting.series.series import INDEX
from assets.forecasting.series_forecast import SeriesForecast
from orchestration.cli.forecast_files import PNG_BEGINS, output_problem
from orchestration.cli.query import finite
from resources.errors import CandlecastError
from resources.publish import publish_bytes

# Rows and remarks that are shown on a terminal.
MOST_ROWS, MOST_NOTES = 60, 12


def as_csv(rows: pd.DataFrame) -> str:
    return rows.to_csv(index=False)


def as_records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON values; timestamps in ISO 8601."""
    stamps = rows["timestamp"]
    text = stamps.map(lambda one: one.isoformat()) if pd.api.types.is_datetime64_any_dtype(stamps) else stamps
    records = rows.assign(timestamp=text).to_dict("records")
    return [{str(key): finite(value) for key, value in one.items()} for one in records]


def as_json(rows: pd.DataFrame) -> str:
    return json.dumps(as_records(rows), default=str) + "\n"


def as_table(rows: pd.DataFrame) -> str:
    """The rows as text; of many the first ones, and how to get all."""
    shown = rows.head(MOST_ROWS).to_string(index=False, float_format=lambda value: f"{value:,.6g}")
    rest = len(rows) - MOST_ROWS
    return shown + (f"\n… {rest:,} more rows: --out FILE or --format csv have all\n" if rest > 0 else "\n")


FORMATS: dict[str, Callable[[pd.DataFrame], str]] = {"table": as_table, "csv": as_csv, "json": as_json}
_PARQUET, _BEGINS = ".parquet", {".csv": ",".join(INDEX).encode(), ".json": b'[{"id":', ".parquet": b"PAR1"}


def file_problem(out: Path | None, plot: Path | None, read: Sequence[Path]) -> str | None:
    """Why the files cannot be written, before any work; None: they can.

    Args:
        read: the files that are read, which are not overwritten.
    """
    if out is not None and out.suffix.lower() not in _BEGINS:
        return f"--out {out}: the name ends with {', '.join(_BEGINS)}"
    if plot is not None and plot.suffix.lower() != ".png":
        return f"--plot {plot}: the name of a PNG ends with .png"
    for option, file in (("--out", out), ("--plot", plot)):
        if file is not None and file.exists() and any(file.samefile(one) for one in read if one.exists()):
            return f"{option} {file} is the file that is read: choose another name"
    begins = b"" if out is None else _BEGINS[out.suffix.lower()]
    found = (output_problem("--out", out, begins), _parquet_problem(out), output_problem("--plot", plot, PNG_BEGINS))
    return next(filter(None, found), None)


def write_files(forecast: SeriesForecast, levels: Sequence[float], out: Path | None, plot: Path | None) -> list[str]:
    """Write the files, each completely or not at all; one line of text per file."""
    lines = []
    if out is not None:
        publish_bytes(out, _content(forecast.quantiles, out.suffix.lower()))
        lines.append(f"{len(forecast.quantiles):,} rows: {out}")
    if plot is not None:
        picture, shown = series_chart(forecast.histories, forecast.quantiles, levels, forecast.about.model)
        publish_bytes(plot, picture)
        panels = sum(len(one.names) for one in forecast.histories)
        lines.append(f"fan charts{f', {shown} of {panels} series' if panels > shown else ''}: {plot}")
    return lines


def score_table(scores: pd.DataFrame) -> str:
    """The scores as text: of many series those over all of them."""
    one = scores.groupby(["id", "target"]).ngroups == 1
    shown = scores if len(scores) <= MOST_ROWS else scores[scores["id"] == scores["id"].iloc[-1]]
    table = shown.drop(columns=["id", "target"]) if one else shown
    return table.to_string(index=False, na_rep="–", float_format=lambda value: f"{value:,.4g}")


def remarks(texts: Sequence[str]) -> list[str]:
    """The remarks that are shown: of many the first ones, and their number."""
    rest = len(texts) - MOST_NOTES
    return [*texts[:MOST_NOTES], *([f"… {rest:,} more: --json has all"] if rest > 0 else [])]


def _content(rows: pd.DataFrame, suffix: str) -> bytes:
    if suffix != _PARQUET:
        return (as_csv(rows) if suffix == ".csv" else as_json(rows)).encode()
    buffer = io.BytesIO()
    rows.assign(id=rows["id"] if rows["id"].map(type).nunique() == 1 else rows["id"].astype(str)).to_parquet(buffer)
    return buffer.getvalue()


def _parquet_problem(out: Path | None) -> str | None:
    if out is None or out.suffix.lower() != _PARQUET or not out.is_file() or not out.stat().st_size:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(out).names
    except (OSError, pa.ArrowInvalid) as error:
        raise CandlecastError(f"--out {out} exists and is damaged ({error}): move it away") from None
    return None if names[: len(INDEX)] == INDEX else f"--out {out} exists and holds no forecasts: choose another name"
