"""The compact weights compared with a random walk, 2011–2021: `python -m benchmarks.compact --data PARQUET`.

CRPS over ten sessions in percent of the close, on symbols seen in training and unseen ones, with intervals from a block
bootstrap over origins. The data list symbols that were still listed in 2021: both sides share the survivorship bias.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.chronos2.forecaster import chronos2_forecaster
from assets.forecasting.kronos_forecaster import kronos_forecaster
from assets.training.compact_recipe import WINDOWS, compact_settings, held_out_symbols, read_parquet
from assets.training.fit.base_weights import WEIGHTS
from assets.training.model_card import update_card
from assets.training.model_selection.scoring import compare_skill, mean_rank_ic, score_forecasts, tasks_at_origins
from resources.checkpoints import Checkpoint, CheckpointStore, Kind
from resources.layout import Home

KINDS: dict[str, Kind] = {"chronos2": "chronos2_model", "kronos": "kronos_predictor"}


class PackagedStore(CheckpointStore):
    """A store in which the packaged weights are in use."""

    def current(self, kind: Kind) -> Checkpoint | None:
        folder = WEIGHTS / kind
        card = json.loads((folder / "card.json").read_text())
        return Checkpoint(kind, card["digest"], folder, card)

    def load(self, kind: Kind, digest: str) -> Checkpoint:
        found = self.current(kind)
        assert found is not None and found.digest == digest
        return found


def main() -> None:
    """Measure, print a table, and write the numbers to JSON or to the packaged cards if asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--every", type=int, default=40, help="sessions between two origins")
    parser.add_argument("--seen", type=int, default=4, help="use every n-th of the seen symbols")
    parser.add_argument("--models", default="chronos2,kronos")
    parser.add_argument("--paths", type=int, default=100)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--write", action="store_true", help="write the scores to the packaged cards")
    given = parser.parse_args()
    settings = compact_settings(Path("data"))
    settings = settings.model_copy(
        update={"forecasts": settings.forecasts.model_copy(update={"sample_count": given.paths})}
    )
    store = PackagedStore(Home(Path("data")))
    histories = read_parquet(given.data)
    unseen = held_out_symbols(list(histories))
    groups = {"seen": [s for s in histories if s not in unseen][:: given.seen], "unseen": unseen}
    sessions = max(histories.values(), key=len).stamps
    first, last = (np.datetime64(day) for day in WINDOWS.test)
    origins = list(sessions[(sessions >= first) & (sessions <= last)][:: given.every])
    horizon, levels = WINDOWS.predict_window, settings.forecasts.levels
    makers = {"chronos2": chronos2_forecaster, "kronos": kronos_forecaster}
    results: dict[str, dict[str, object]] = {}
    for group, names in groups.items():
        tasks = tasks_at_origins({s: histories[s] for s in names}, origins, WINDOWS.lookback_window, horizon)
        walks = {
            f.model: score_forecasts(f.load(), tasks, horizon, levels, f.batch_size)
            for f in baseline_forecasters(settings)
            if f.model.startswith("random_walk")
        }
        for model in given.models.split(","):
            forecaster = makers[model](settings, store)
            started = time.perf_counter()
            scores = score_forecasts(forecaster.load(), tasks, horizon, levels, forecaster.batch_size)
            seconds = time.perf_counter() - started
            for walk, theirs in walks.items():
                comparison = compare_skill(scores, theirs, settings.seed)
                print(f"{model:9} {group:7} against {walk:17} {comparison.text}")
                results.setdefault(model, {})[f"{group}, against {walk}"] = {
                    **comparison.to_dict(),
                    "symbols": len(names),
                    "forecasts": len(tasks),
                }
            ic = mean_rank_ic(scores)
            ic_text = "rank IC undefined" if np.isnan(ic) else f"rank IC {ic:+.3f}"
            print(f"{model:9} {group:7} {ic_text}, {len(tasks) / seconds:.1f} forecasts/s")
    if given.write:
        for model, comparisons in results.items():
            update_card(WEIGHTS / KINDS[model], scores={"after_cutoff": comparisons})
    if given.out:
        given.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
