"""The benchmark of the default models on a small simulated market."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from assets.training.compact_recipe import read_parquet
from benchmarks.skill.__main__ import main
from benchmarks.skill.derived import derived_stages
from benchmarks.skill.evaluation import Evaluation
from benchmarks.skill.forecasts import ESTIMATES, LEVELS, QuantileStore, forecast_calls
from benchmarks.skill.models import estimates
from benchmarks.skill.sample import build_sample, seen_symbols
from benchmarks.skill.scores import Scores, score, skill, thirds
from benchmarks.skill.tables import report
from benchmarks.skill.workers import Workers

SYMBOLS = ("QA", "QB", "QC", "QD", "QE")
SEEN = "AAPL"
WARM_UP, FIRST, LAST, EVERY = date(2010, 1, 4), date(2011, 1, 3), date(2011, 12, 30), 6
# Prints the processes of two workers, which sleep. With the default handlers: tests in the background of a shell ignore
# SIGINT, and Dagster copies that to SIGTERM.
SLEEPERS = """
import multiprocessing, signal, time
from threading import Thread
from benchmarks.skill.workers import Call, Workers

def report():
    while len(children := multiprocessing.active_children()) < 2:
        time.sleep(0.05)
    time.sleep(1)  # the start of the last one ends
    print(*(child.pid for child in children), flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
with Workers(2) as workers:
    Thread(target=report, daemon=True).start()
    workers.run([Call(time.sleep, (120,), "sleep")] * 4, "sleep")
"""
SPLIT, HALF = pd.Timestamp("2011-05-02"), pd.Timestamp("2011-07-01")


def bars(symbol: str, seed: int) -> pd.DataFrame:
    """Five years of bars whose volatility is an AR(1); QA splits two for one, and QB is listed late."""
    draw = np.random.default_rng(seed)
    days = pd.bdate_range("2007-01-01" if symbol != "QB" else "2010-02-01", "2012-02-28")
    log_variance = np.zeros(len(days))
    for day in range(1, len(days)):
        log_variance[day] = 0.97 * log_variance[day - 1] + 0.25 * draw.standard_normal()
    moves = draw.standard_normal((len(days), 20)) * 0.015 / np.sqrt(20) * np.exp(log_variance / 2)[:, None]
    ends = moves.sum(axis=1).cumsum()
    prices = 50 * np.exp(np.c_[np.zeros(len(days)), moves.cumsum(axis=1)] + np.r_[0.0, ends[:-1]][:, None])
    after = np.asarray((days >= SPLIT) & (symbol == "QA"))
    quoted = prices / np.where(after, 2.0, 1.0)[:, None]
    return pd.DataFrame(
        {
            "symbol": symbol,
            "date": days,
            "open": quoted[:, 0],
            "high": quoted.max(axis=1),
            "low": quoted.min(axis=1),
            "close": quoted[:, -1],
            "volume": (seed + 1) * 1e6 * np.exp(log_variance / 2) * np.where(after, 2.0, 1.0),
            "split": np.where((days == SPLIT) & (symbol == "QA"), 2.0, 1.0),
            "adj_close": prices[:, -1] / 2,
        }
    )


@pytest.fixture(scope="module")
def market() -> pd.DataFrame:
    return pd.concat([bars(symbol, seed) for seed, symbol in enumerate((*SYMBOLS, SEEN))], ignore_index=True)


@pytest.fixture(scope="module")
def data(market: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bars") / "bars.parquet"
    market.to_parquet(file)
    return file


def evaluated(data: Path, folder: Path, models: list[str]) -> QuantileStore:
    """All quantiles of some models and what is derived from them."""
    histories = read_parquet(data)
    sample = build_sample(histories, SYMBOLS, WARM_UP, FIRST, LAST, EVERY)
    store = QuantileStore.make(folder, sample)
    (folder / ESTIMATES).write_bytes(pickle.dumps(estimates(histories)))
    with Workers(1) as workers:
        workers.run(forecast_calls(store, models, data), "forecasts")
        for stage in derived_stages(store, models):
            workers.run(stage, "derived")
    return store


def test_no_forecast_and_no_group_changes_with_later_bars(market: pd.DataFrame, data: Path, tmp_path: Path) -> None:
    models = ["random_walk_ewma", "garch", "har", "volatility"]
    later = market["date"] > HALF
    changed = market.copy()
    changed.loc[later, ["open", "high", "low", "close", "adj_close"]] *= 1.7
    changed.loc[later, "volume"] *= 0.2
    changed.to_parquet(tmp_path / "changed.parquet")
    before = evaluated(data, tmp_path / "before", models)
    after = evaluated(tmp_path / "changed.parquet", tmp_path / "after", models)
    assert len(before.models) == 2 * (len(models) + 2)
    early = before.sample.origins[before.sample.origin] <= np.datetime64(HALF)
    assert 100 < early.sum() < len(early)
    for model in before.models:
        ours, theirs = before.read(model), after.read(model)
        assert np.isfinite(ours).all()
        np.testing.assert_array_equal(ours[early], theirs[early], err_msg=model)
        assert (ours[~early] != theirs[~early]).any()
    for name in ("volatility", "turnover"):
        ours, theirs = getattr(before.sample, name), getattr(after.sample, name)
        np.testing.assert_array_equal(thirds(ours, before.sample)[early], thirds(theirs, after.sample)[early])


def test_actuals_are_adjusted_and_short_histories_left_out(data: Path) -> None:
    histories = read_parquet(data)
    sample = build_sample(histories, SYMBOLS, WARM_UP, FIRST, LAST, EVERY)
    assert sample.origins[sample.scored_from] == np.datetime64(FIRST)
    # No bar of QA moved by a half, though it was quoted at a half on the day of its split.
    assert np.abs(sample.actual[sample.symbol == 0]).max() < 0.5
    late = sample.origins[sample.origin[sample.symbol == SYMBOLS.index("QB")]]
    assert late.min() > np.datetime64("2011-03-01") and len(late)
    smaller, rows = sample.of_symbols(2)
    assert smaller.symbols == ("QA", "QE") and (smaller.actual == sample.actual[rows]).all()
    assert smaller.scored.sum() == sample.scored[rows].sum() > 0 and smaller.scored_from == sample.scored_from
    assert (smaller.origins[smaller.origin] == sample.origins[sample.origin[rows]]).all()


def test_skill_is_that_of_the_mean_pinball_loss(data: Path) -> None:
    """A forecast with the law of the reference has skill 0; a wider one has the skill of its larger loss."""
    sample = build_sample(read_parquet(data), SYMBOLS, WARM_UP, FIRST, LAST, EVERY)
    levels = np.asarray(LEVELS)
    narrow = sample.volatility[:, None, None] * np.sqrt(np.arange(1, 11))[:, None] * np.log(levels / (1 - levels)) / 1.8
    found = {factor: score(factor * narrow, levels, sample) for factor in (1.0, 3.0)}
    assert skill(found[1.0], found[1.0], sample).skill == 0

    def pinball(factor: float) -> float:
        error = (sample.actual[..., None] - factor * narrow)[sample.scored]
        loss = pd.Series(np.maximum(levels * error, (levels - 1) * error).mean(axis=(1, 2)))
        return float(loss.groupby(sample.origin[sample.scored]).mean().mean())

    wide = skill(found[3.0], found[1.0], sample)
    assert wide.skill == pytest.approx(1 - pinball(3) / pinball(1), abs=1e-5) and wide.high < 0
    inside = np.abs(sample.actual) <= np.abs(3 * narrow[..., 0])
    assert found[3.0].covered[2].mean() == inside.mean()


def test_the_report_marks_years_and_goals(data: Path) -> None:
    sample = build_sample(read_parquet(data), SYMBOLS, WARM_UP, FIRST, LAST, EVERY)
    levels, shape = np.asarray(LEVELS), (len(sample), 10)
    good = Scores(np.full(shape, 0.98), np.ones((3, *shape), dtype=bool), levels)
    reference = Scores(np.ones(shape), np.ones((3, *shape), dtype=bool), levels)
    scores = {"random_walk_ewma": reference, "volatility": good, "volatility_recalibrated": good}
    text = report(Evaluation("all", "All", sample, scores), None)
    goals = [line for line in text.splitlines() if line.endswith(("| yes |", "| no |"))]
    assert [line.split(" | ")[-1] for line in goals] == ["yes |", "yes |", "no |"]
    assert "+2.00 %" in goals[0] and "100.0 !" in text


def test_the_benchmark_scores_unseen_symbols_alone_and_states_what_it_read(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert SEEN in seen_symbols() and not set(SYMBOLS) & seen_symbols()
    options = ["--data", str(data), "--models", "random_walk", "--processes", "1", "--last", str(LAST)]
    options += ["--warm-up", str(WARM_UP), "--json", str(tmp_path / "out.json"), "--picture", str(tmp_path / "png")]
    main(options)
    printed, found = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_text())
    assert found["results"]["all"]["symbols"] == list(SYMBOLS) and found["symbols_seen_in_training"] == [SEEN]
    assert set(found["weights"]) >= {"volatility_model", "chronos2_model"} and len(found["data_sha256"]) == 64
    assert "| `random_walk` |" in printed and "## Goals" in printed
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in (tmp_path / "png").glob("*.png"))
    assert len(list((tmp_path / "png").iterdir())) == 2


def test_a_file_without_unseen_symbols_is_refused(
    market: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    market[market["symbol"] == SEEN].to_parquet(tmp_path / "seen.parquet")
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path / "seen.parquet")])
    assert "--seen" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path / "seen.parquet"), "--first", "2009-01-01"])
    assert "--first" in capsys.readouterr().err


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(sign: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SLEEPERS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    workers = [psutil.Process(int(number)) for number in parent.stdout.readline().split()]
    parent.send_signal(sign)
    parent.communicate(timeout=30)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert len(workers) == 2 and all(one.status() == psutil.STATUS_ZOMBIE for one in alive)
