"""Latency and memory of each forecaster: `python -m benchmarks.models [MODEL …] [--json FILE]`.

Every model runs in a process of its own, one after the other, on the same random bars: those that it reads (512, or its
own lookback), 10 steps, 9 levels; Kronos reads 90 bars and draws 100 paths. Published weights are replaced by random
ones of the same shape: the time does not depend on their values. Times are processor time of one thread, so that other
programs on the machine change them little. *alone*: one forecast, as for one symbol a day. *batch*: per forecast, of 32
together, with its ratio to `random_walk_ewma`. *peak*: memory of the whole process, with Python and its imports.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from assets.forecasting.models.pretrained import DECILES
from assets.forecasting.plugin import Forecaster, ForecastInput
from resources.settings import Settings

# Bars of a forecaster that reads all there are.
MOST_BARS = 2_000
HORIZON, TOGETHER, REPEATS = 10, 32, 3
SETTINGS = Settings().model_copy(
    update={
        "forecasts": Settings().forecasts.model_copy(update={"levels": DECILES}),
        "compute": Settings().compute.model_copy(update={"device": "cpu", "threads": 1}),
    }
)


@dataclass(frozen=True)
class Row:
    """The measurements of one model.

    Attributes:
        alone, batch: milliseconds of processor time per forecast.
        peak: MiB of the process.
        parameters: of its weights, in millions; 0: none.
    """

    model: str
    parameters: float
    alone: float
    batch: float
    peak: float


def fitted(name: str, folder: Path) -> tuple[Forecaster, int]:
    """A forecaster without weights."""
    from assets.forecasting.models import boosted_quantiles, exponential_smoothing, garch

    for module in (boosted_quantiles, exponential_smoothing, garch):
        if hasattr(module, name):
            return getattr(module, name)(SETTINGS), 0
    raise LookupError(name)


def random_chronos(generation: str, size: str, folder: Path) -> tuple[Forecaster, int]:
    """A Chronos of random weights in the shape of the published ones."""
    from assets.forecasting.models.chronos_models import chronos
    from benchmarks import random_weights

    if generation == "2":
        random_weights.save_chronos_2(folder)
    else:
        save = random_weights.save_chronos_bolt if generation == "bolt" else random_weights.save_chronos_t5
        save(folder, random_weights.T5_SHAPES[size])
    return chronos(SETTINGS, model=str(folder)), parameters(folder)


def random_kronos(size: str, folder: Path) -> tuple[Forecaster, int]:
    """A Kronos of random weights in the shape of the published ones; "compact": the packaged weights."""
    from assets.forecasting.models.kronos_hub import kronos_hub
    from assets.training.fit.base_weights import WEIGHTS
    from benchmarks.random_weights import save_kronos

    predictor, tokenizer = folder / "predictor", folder / "tokenizer"
    if size == "compact":
        predictor, tokenizer = WEIGHTS / "kronos_predictor", WEIGHTS / "kronos_tokenizer"
    else:
        save_kronos(folder, size)
    made = kronos_hub(SETTINGS, model=str(predictor), tokenizer=str(tokenizer))
    return made, parameters(predictor) + parameters(tokenizer)


def compact_chronos2(folder: Path) -> tuple[Forecaster, int]:
    """The packaged Chronos-2."""
    from assets.forecasting.models.chronos_models import chronos
    from assets.training.fit.base_weights import WEIGHTS

    packaged = WEIGHTS / "chronos2_model"
    return chronos(SETTINGS, model=str(packaged)), parameters(packaged)


def packaged_fracast(folder: Path) -> tuple[Forecaster, int]:
    """fracast with the weights of its wheel."""
    from assets.forecasting.models.fracast_model import fracast

    return fracast(SETTINGS), 85_001


def baseline(folder: Path) -> tuple[Forecaster, int]:
    """The baseline random_walk_ewma, called as a forecaster."""
    from assets.forecasting.models.series import FittedForecaster, fallback_quantiles

    return FittedForecaster("random_walk_ewma", "baseline", "MIT", {}, None, fallback_quantiles), 0


Make = Callable[[Path], tuple[Forecaster, int]]
MODELS: dict[str, Make] = {
    "random_walk_ewma": baseline,
    **{name: partial(fitted, name) for name in ("auto_ets", "auto_theta", "garch_t", "gjr_garch_t", "lightgbm")},
    "fracast": packaged_fracast,
    "chronos-2 compact": compact_chronos2,
    **{f"chronos-bolt {size}": partial(random_chronos, "bolt", size) for size in ("tiny", "mini", "small", "base")},
    **{f"chronos-t5 {size}": partial(random_chronos, "t5", size) for size in ("tiny", "small")},
    "chronos-2": partial(random_chronos, "2", ""),
    **{f"kronos {size}": partial(random_kronos, size) for size in ("compact", "mini", "small", "base")},
}


def parameters(folder: Path) -> int:
    """The number of weights in a folder."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "numpy") as weights:
        return sum(int(np.prod(weights.get_slice(name).get_shape())) for name in weights.keys())  # noqa: SIM118


def inputs(first: int, count: int, bars: int) -> list[ForecastInput]:
    """Random walks of valid bars, numbered from `first`."""
    made = []
    for number in range(first, first + count):
        generator = np.random.default_rng(number)
        closes = 100 * np.exp(np.cumsum(generator.standard_t(5, bars) * 0.01))
        opens = closes * np.exp(generator.normal(0, 0.005, bars))
        high, low = np.maximum(opens, closes) * 1.003, np.minimum(opens, closes) * 0.997
        volume = generator.lognormal(10, 1, bars)
        stamps = np.datetime64("2018-01-01", "s") + np.arange(bars + HORIZON) * np.timedelta64(86_400, "s")
        values = np.column_stack([opens, high, low, closes, volume, volume * closes])
        made.append(ForecastInput(f"S{number}", stamps[:bars], values, stamps[bars:], number))
    return made


def measure(name: str) -> Row:
    """Measure one model in this process."""
    with tempfile.TemporaryDirectory() as folder:
        forecaster, weights = MODELS[name](Path(folder))
        bars = forecaster.lookback or MOST_BARS
        forecaster.predict(inputs(0, 1, bars), DECILES)
        times: dict[int, list[float]] = {1: [], TOGETHER: []}
        for repeat in range(REPEATS):
            for count, taken in times.items():
                # Other series each time: lightgbm keeps the trees of those that it has seen.
                given = inputs(1_000 * (repeat + 1) + count, count, bars)
                started = time.process_time()
                forecaster.predict(given, DECILES)
                taken.append((time.process_time() - started) * 1000 / count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Row(name, weights / 1e6, min(times[1]), min(times[TOGETHER]), peak)


def table(rows: Sequence[Row]) -> str:
    """The measurements as a Markdown table."""
    reference = rows[0]
    lines = [
        f"| model | parameters | alone | batch | × {reference.model} | peak |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        size = (
            f"{row.parameters:.2g} M"
            if 0 < row.parameters < 10
            else f"{row.parameters:.0f} M"
            if row.parameters
            else "–"
        )
        lines.append(
            f"| {row.model} | {size} | {row.alone:.1f} ms | {row.batch:.1f} ms | {row.batch / reference.batch:,.0f} | "
            f"{row.peak:,.0f} MiB |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure the models and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", help=", ".join(MODELS))
    parser.add_argument("--one", help="measure one model in this process and print JSON")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(asdict(measure(given.one))))
        return
    rows = []
    for name in dict.fromkeys(["random_walk_ewma", *(given.models or MODELS)]):
        command = [sys.executable, "-m", "benchmarks.models", "--one", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(Row(**json.loads(done.stdout.splitlines()[-1])))
        print(rows[-1], file=sys.stderr)
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
