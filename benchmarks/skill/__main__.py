"""Command line of the benchmark: see the package."""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import benchmarks.skill
from assets.forecasting.baselines.closed_form import ESTIMATED
from assets.training.compact_recipe import read_parquet
from benchmarks.skill import speed
from benchmarks.skill.derived import derived_stages, score_calls
from benchmarks.skill.evaluation import Evaluation
from benchmarks.skill.forecasts import QuantileStore, forecast_calls, write_estimates
from benchmarks.skill.models import CUTOFF, KRONOS, MODELS, known_models, weights_digests
from benchmarks.skill.pictures import write_pictures
from benchmarks.skill.sample import Sample, build_sample, evenly, seen_symbols
from benchmarks.skill.scores import CONFIDENCE, DRAWS, SEED, Scores
from benchmarks.skill.tables import report
from benchmarks.skill.workers import Call, Workers

PACKAGES = ("candlecast", "numpy", "scipy", "pandas", "torch", "chronos-forecasting", "arch")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.data.is_file():
        parser.error(
            f"{given.data} does not exist: set DATA=file.parquet to a file of daily bars; --help lists columns"
        )
    if given.first <= CUTOFF:
        parser.error(f"--first {given.first}: weights and estimates know bars up to {CUTOFF}; give a later date")
    try:
        models = known_models(given.models.split(",") if given.models else MODELS)
    except ValueError as error:
        parser.error(str(error))
    if given.speed:
        print(speed.measure(given.data.absolute(), models, given.processes))
        return
    began = time.perf_counter()
    histories = read_parquet(given.data)
    seen = seen_symbols() & set(histories)
    chosen = sorted(seen if given.seen else set(histories) - seen)
    if not chosen:
        parser.error(
            f"{given.data} has no symbol that the packaged weights {'saw' if given.seen else 'never saw'} "
            f"({len(seen)} of {len(histories)} were trained on): {'leave out' if given.seen else 'set'} --seen"
        )
    sample = build_sample(histories, evenly(chosen, given.symbols), given.warm_up, given.first, given.last, given.every)
    if not sample.scored.any():
        parser.error(f"no forecast between {given.first} and {given.last}: the bars end before, or begin too late")
    about = {
        "data_sha256": hashlib.sha256(given.data.read_bytes()).hexdigest(),
        "weights": weights_digests(),
        "symbols_seen_in_training": sorted(seen),
        "scored_symbols": "seen in training" if given.seen else "unseen",
        "options": {name: str(value) for name, value in sorted(vars(given).items())},
        "interval": {"confidence": CONFIDENCE, "draws": DRAWS, "seed": SEED},
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}},
    }
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder, Workers(given.processes) as workers:
        evaluations = _evaluations(given, sample, models, Path(folder), workers)
    seconds = round(time.perf_counter() - began)
    kind = "symbols that the weights were trained on" if given.seen else "symbols that no weights were trained on"
    left_out = f"{len(histories) - len(seen) if given.seen else len(seen)} other symbols of the file are not scored"
    print(f"# CRPS skill on {kind}\n\n{len(sample.symbols)} {kind}; {left_out}.\n")
    print(report(*evaluations) if len(evaluations) > 1 else report(evaluations[0], None))
    print(f"\n{seconds:,} s; peak of all processes together: {workers.memory_text}")
    if given.picture:
        for file in [file for one in evaluations for file in write_pictures(one, given.picture)]:
            print(file)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        cost = {
            "seconds": seconds,
            "peak_mib": round(workers.peak) or None,
            "processor_seconds_by_model": workers.seconds(),
        }
        found = {one.name: one.to_dict() for one in evaluations}
        given.json.write_text(json.dumps({**about, "cost": cost, "results": found}, indent=1))


def _evaluations(
    given: argparse.Namespace, sample: Sample, models: list[str], folder: Path, workers: Workers
) -> list[Evaluation]:
    """The evaluation of the whole sample and, where Kronos forecasts a part of it, of that part."""
    data = given.data.absolute()
    if not given.kronos_symbols:
        models = [model for model in models if model != KRONOS]
    apart = KRONOS in models and len(sample.symbols) > given.kronos_symbols
    everywhere = [model for model in models if not (apart and model == KRONOS)]
    stores, calls = [QuantileStore.make(folder / "all", sample)], list[Call]()
    if apart:
        smaller, rows = sample.of_symbols(given.kronos_symbols)
        stores.append(QuantileStore.make(folder / KRONOS, smaller))
        calls += forecast_calls(stores[1], [KRONOS], data)
    estimated = [model for model in everywhere if model in ESTIMATED]
    calls += forecast_calls(stores[0], [model for model in everywhere if model not in ESTIMATED], data)
    if estimated:
        calls.insert(0, Call(write_estimates, (stores[0].folder, data), "estimates"))
    workers.run(calls, "forecasts")
    workers.run(forecast_calls(stores[0], estimated, data), "forecasts")
    if apart:
        for model in everywhere:
            stores[1].create(model)
            stores[1].write(model, slice(None), stores[0].read(model)[rows])
    return [_evaluation(*one, workers) for one in zip(stores, (everywhere, models), strict=False)]


def _evaluation(store: QuantileStore, models: list[str], workers: Workers) -> Evaluation:
    """Derive forecasts, and score all."""
    name = store.folder.name
    for stage in derived_stages(store, models):
        workers.run(stage, f"derived forecasts, {name}")
    scored = workers.run(score_calls(store), f"scores, {name}")
    found = {result.label: result.value for result in scored}
    scores = {model: own for model in store.models if isinstance(own := found[model], Scores)}
    return Evaluation(name, _title(store.sample, name), store.sample, scores)


def _title(sample: Sample, name: str) -> str:
    origins = len(sample.origins) - sample.scored_from
    first, last = sample.origins[[sample.scored_from, -1]].astype("datetime64[D]")
    which = "All models, on the symbols that Kronos forecasts" if name == KRONOS else "All symbols and origins"
    return (
        f"{which}: {len(sample.symbols)} symbols, {origins} origins {first} … {last}, "
        f"{int(sample.scored.sum()):,} forecasts of {sample.actual.shape[1]} steps; {sample.scored_from} "
        "origins before to warm up"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.skill", description=benchmarks.skill.__doc__, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, help="Parquet file of daily bars, see above")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--picture", type=Path, help="write PNG files to this folder")
    parser.add_argument("--models", help=f"comma-separated, default all: {', '.join(MODELS)}")
    parser.add_argument("--symbols", type=int, help="this many of the unseen symbols, evenly spaced by name")
    parser.add_argument(
        "--seen", action="store_true", help="score the symbols that the weights were trained on instead"
    )
    parser.add_argument("--warm-up", type=_day, default=date(2008, 1, 1), help="origins before --first begin here")
    parser.add_argument("--first", type=_day, default=date(2011, 1, 1), help="first scored origin")
    parser.add_argument("--last", type=_day, default=date(2020, 12, 31), help="last origin")
    parser.add_argument("--every", type=int, default=5, help="sessions between two origins")
    parser.add_argument(
        "--kronos-symbols",
        type=int,
        default=26,
        help="symbols that Kronos forecasts, at all origins: 12 s each on two cores; 0: none",
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scratch", type=Path, help="folder for about 10 GB of quantiles, removed at the end")
    parser.add_argument("--speed", action="store_true", help="time and memory of one origin of 500 symbols instead")
    return parser


def _day(text: str) -> date:
    return date.fromisoformat(text)


if __name__ == "__main__":
    # As Ctrl-C: the workers are stopped, and the scratch folder is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
