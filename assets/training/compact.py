"""Trains the compact weights that are packaged with candlecast: `python -m assets.training.compact --data PARQUET`.

The same windows, training loop and cards as for any other training, on daily bars of US stocks up to the end of 2010.
Every fifth symbol is held out, so that scores on unseen symbols can be reported separately. The bars are not part of
the project: a Parquet file with symbol, date, open, high, low, close, volume, split and adj_close (prices raw) is
needed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from assets.market.history import BarHistory
from assets.training.build_checkpoint import build_checkpoint
from assets.training.checkpoint_request import checkpoint_request
from assets.training.compact_recipe import compact_settings, seen_histories
from assets.training.data.current_windows import TrainingWindows
from assets.training.data.dataset import write_arrays
from assets.training.data.windows import build_windows
from assets.training.fit.base_weights import WEIGHTS
from assets.training.model_card import update_card
from assets.training.volatility import build_volatility, with_validation_scores
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.layout import Home
from resources.progress import Progress
from resources.publish import publishing_folder

DATA = (
    "daily bars of US stocks, 1999-11-01 … 2010-12-31 (2010 for selection); the symbols were still listed in 2021, so "
    "scores on them carry survivorship bias"
)
# Of Chronos-2 in the initialisation of chronos-forecasting; see benchmarks/trials.csv.
CONSTANT_SHAPE = (
    "The forecast is one constant shape times a scale that is read from ranges, gaps and returns before the model: the "
    'model returns the same for every input. Trained with `chronos2.initialisation = "fan_in"`, it reads its input; on '
    "US stocks up to 2010 such weights scored no better."
)
NOTES: dict[Kind, str] = {"chronos2_model": CONSTANT_SHAPE}


def train_compact_weights(data: Path, home: Home, to: Path, only: bool = False) -> None:
    """Train the four models, or Chronos-2 only, and copy them to `to`, one folder per kind."""
    settings = compact_settings(home.root)
    histories = seen_histories(data)
    found = build_windows(histories, settings.windows)
    folder = home.windows / found.digest
    if not folder.is_dir():
        with publishing_folder(folder, home.scratch / "windows") as filling:
            write_arrays(filling, found.arrays, dict(found.manifest))
    windows = TrainingWindows(found.digest, folder)
    store = CheckpointStore(home)

    def build(kind: Kind, tokenizer: Checkpoint | None = None) -> Checkpoint:
        request = checkpoint_request(kind, settings, windows, tokenizer)
        return build_checkpoint(request, settings, home, store, windows, _progress_line(kind))

    fitted = [] if only else [build("kronos_tokenizer")]
    fitted += [build("kronos_predictor", tokenizer) for tokenizer in fitted]
    for checkpoint in (*fitted, build("chronos2_model")):
        shutil.rmtree(to / checkpoint.kind, ignore_errors=True)
        shutil.copytree(checkpoint.folder, to / checkpoint.kind)
        update_card(to / checkpoint.kind, note=NOTES.get(checkpoint.kind), training={"data": DATA})
    if not only:
        train_volatility(histories, home, to)


def train_volatility(histories: dict[str, BarHistory], home: Home, to: Path) -> None:
    """Fit the volatility model and copy it to `to`: in seconds, without the windows of the other models."""
    settings, store = compact_settings(home.root), CheckpointStore(home)
    fitted = build_volatility(settings, histories, store)
    used = with_validation_scores(fitted, settings, histories, store)
    shutil.rmtree(to / used.kind, ignore_errors=True)
    shutil.copytree(used.folder, to / used.kind)


def _progress_line(kind: str) -> Progress:
    def show(done: int, total: int, note: str = "") -> None:
        sys.stderr.write(f"\r{kind} {done:,} / {total:,}  {note}   ")

    return show


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Parquet file of daily bars, see above")
    parser.add_argument("--work", type=Path, default=Path("data/compact"), help="working folder, kept afterwards")
    parser.add_argument("--only", choices=["chronos2", "volatility"], help="train this model alone")
    parser.add_argument("--to", type=Path, default=WEIGHTS, help="folder for the weights")
    given = parser.parse_args()
    if not given.data.is_file():
        parser.error(
            f"{given.data} does not exist: set DATA=file.parquet to a file of daily bars; --help lists its columns"
        )
    home, to = Home(given.work.absolute()), given.to.absolute()
    if given.only == "volatility":
        train_volatility(seen_histories(given.data), home, to)
    else:
        train_compact_weights(given.data, home, to, only=given.only == "chronos2")


if __name__ == "__main__":
    main()
