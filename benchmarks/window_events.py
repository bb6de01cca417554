"""CRPS over the validation range by what training does with windows that hold an event (`windows.events`).

    python -m benchmarks.window_events [HOME]

HOME is a home with the bars of the sample profile (default: data). Fits the models of the profile three times into a
temporary home, with the same seed, and scores the same forecasts of the validation range.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd

from assets.forecasting.chronos2.forecaster import chronos2_forecaster
from assets.forecasting.forecaster import ForecastTask
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.market.events import with_events
from assets.market.history import BarHistory, read_histories
from assets.training.build_checkpoint import build_checkpoint
from assets.training.checkpoint_request import checkpoint_request
from assets.training.data.current_windows import TrainingWindows
from assets.training.data.dataset import write_arrays
from assets.training.data.windows import build_windows
from assets.training.model_selection.candidates import CandidateStore
from assets.training.model_selection.scoring import compare_skill, score_forecasts, tasks_at_origins
from resources.checkpoints import Checkpoint, CheckpointStore
from resources.layout import Home
from resources.profiles import load_settings
from resources.settings import Settings
from resources.warehouse import Warehouse

RULES = ("keep", "drop", "downweight")
ORIGINS, PATHS = 80, 100


def with_rule(settings: Settings, rule: str) -> Settings:
    """The settings with one rule for events, sampling at top_p = 1."""
    return settings.model_copy(
        update={
            "windows": settings.windows.model_copy(update={"events": rule}),
            "forecasts": settings.forecasts.model_copy(update={"sample_count": PATHS, "top_p": 1.0}),
        }
    )


def fitted(settings: Settings, home: Home, histories: dict[str, BarHistory]) -> tuple[int, list[Checkpoint]]:
    """The number of training windows, and the tokenizer, the predictor and Chronos-2."""
    found = build_windows(histories, settings.windows)
    folder = home.windows / found.digest
    folder.mkdir(parents=True)
    write_arrays(folder, found.arrays, dict(found.manifest))
    windows, store = TrainingWindows(found.digest, folder), CheckpointStore(home)
    tokenizer = build_checkpoint(
        checkpoint_request("kronos_tokenizer", settings, windows), settings, home, store, windows
    )
    requests = [
        checkpoint_request("kronos_predictor", settings, windows, tokenizer),
        checkpoint_request("chronos2_model", settings, windows),
    ]
    return found.total("train"), [
        tokenizer,
        *(build_checkpoint(one, settings, home, store, windows) for one in requests),
    ]


def scores(settings: Settings, home: Home, checkpoint: Checkpoint, tasks: list[ForecastTask]) -> pd.DataFrame:
    """The scores of one model's forecasts."""
    store = CandidateStore(home, candidate=checkpoint)
    forecaster = (kronos_forecaster if checkpoint.kind == "kronos_predictor" else chronos2_forecaster)(settings, store)
    horizon, levels = settings.windows.predict_window, settings.forecasts.levels
    return score_forecasts(forecaster.load(), tasks, horizon, levels, forecaster.batch_size)


def main(home: Path) -> None:
    """Print one row per model and rule."""
    plain = load_settings(profile="sample")
    warehouse = Warehouse(Home(home).warehouse)
    histories = with_events(read_histories(warehouse, "1d"), warehouse, "1d")
    window = plain.windows
    first, last = (pd.Timestamp(day).to_datetime64() for day in window.validation)
    stamps = next(iter(histories.values())).stamps
    days = stamps[(stamps >= first) & (stamps <= last)][: -window.predict_window]
    origins = list(days[:: max(1, len(days) // ORIGINS)])
    tasks = tasks_at_origins(histories, origins, window.lookback_window, window.predict_window)
    base: dict[str, pd.DataFrame] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for rule in RULES:
            settings, own = with_rule(plain, rule), Home(Path(scratch) / rule)
            count, (_, *models) = fitted(settings, own, histories)
            for checkpoint in models:
                found = scores(settings, own, checkpoint, tasks)
                base.setdefault(checkpoint.kind, found)
                skill = compare_skill(found, base[checkpoint.kind], plain.seed).text if rule != "keep" else ""
                print(
                    f"{checkpoint.kind:<18} {rule:<11} {count:>6} windows  CRPS {found['crps'].mean():.4f} %  {skill}"
                )
            shutil.rmtree(own.root, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
