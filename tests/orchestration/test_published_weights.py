"""The profile `pretrained` from a hub to the report: fetched, pinned, offline, judged after the cutoffs."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from assets.forecasting.chronos2.compact import new_chronos2
from kronos import Kronos, KronosTokenizer
from resources.calendar import TradingCalendar
from resources.settings import Chronos2Settings
from tests.kronos.kronos_pairs import TINY, TINY_TOKENIZER
from tests.orchestration.cli_project import CliProject
from tests.resources.local_hub import LocalHub, local_hub

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
# The market of the profile is replaced by a file, and its origins are fewer.
CHANGES = """
[profiles.own.market]
source = "files"
path = "bars.parquet"
start = 2022-01-03

[profiles.own.windows]
train = [2022-01-03, 2023-06-30]
validation = [2023-07-10, 2024-06-21]
test = [2024-06-28, 2026-03-31]

[profiles.own.forecasts]
every = 20
sample_count = 30
recentre = false

[profiles.own.evaluation]
bootstrap_draws = 100
"""


def folder_files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def publish(hub: LocalHub, folder: Path) -> None:
    """Random weights of a few thousand parameters under the published names, in the published formats."""
    torch.manual_seed(1)
    Kronos(**TINY.to_dict()).save_pretrained(folder / "kronos")
    KronosTokenizer(**TINY_TOKENIZER.to_dict()).save_pretrained(folder / "tokenizer")
    shape = Chronos2Settings(d_model=16, d_ff=32, num_layers=1, num_heads=2, context_length=512)
    new_chronos2(shape, 10).save_pretrained(folder / "chronos2")
    hub.commit("NeoQuasar/Kronos-small", "2025-08-01", folder_files(folder / "kronos"))
    hub.commit("NeoQuasar/Kronos-Tokenizer-base", "2025-08-01", folder_files(folder / "tokenizer"))
    hub.commit("amazon/chronos-2", "2025-10-20", folder_files(folder / "chronos2"))


def write_bars(file: Path) -> None:
    sessions = TradingCalendar("XNYS").sessions(pd.Timestamp("2022-01-03").date(), pd.Timestamp("2026-04-30").date())
    frames = []
    for seed, symbol in enumerate(("AAA", "BBB")):
        rng = np.random.default_rng(seed)
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(sessions))))
        values = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
        values["volume"] = rng.integers(100_000, 1_000_000, len(close)).astype(float)
        frames.append(pd.DataFrame({"symbol": symbol, "date": sessions, **values}))
    pd.concat(frames).to_parquet(file)


def own_profile() -> str:
    """The packaged settings with a profile `own`: the weights of `pretrained` on own bars."""
    text = (ROOT / "candlecast.toml").read_text()
    weights = text[text.index("[profiles.pretrained.tokenizer]") : text.index("[profiles.pretrained.forecasts]")]
    # Random weights reconstruct nothing.
    weights = weights.replace("epochs = 0", "epochs = 0\nmin_codebook_use = 0\nmax_reconstruction = 100", 1)
    return f"{text}\n{weights.replace('pretrained', 'own')}\n{CHANGES}"


def test_the_published_weights_are_scored_offline_on_origins_after_their_cutoffs(tmp_path: Path) -> None:
    write_bars(tmp_path / "bars.parquet")
    project = CliProject(tmp_path, own_profile())
    environment = {**project.environment(), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}

    def call(*arguments: str, **more: str) -> tuple[int, dict[str, Any]]:
        command = project.command(*arguments, "--profile", "own", "--json")
        done = subprocess.run(
            command, env={**environment, **more}, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    with local_hub() as hub:
        publish(hub, tmp_path / "published")
        environment["HF_ENDPOINT"] = hub.url
        status, found = call("run")
        assert status == 1 and found["error"].count("candlecast fetch --profile own") == 3
        status, fetched = call("fetch")
        assert status == 0 and len(fetched["models"]) == 3
        # What happens on the hub later changes nothing.
        hub.commit("amazon/chronos-2", "2026-04-01", {"config.json": b"{}", "model.safetensors": b"other"})
        asked = len(hub.requests)
        status, doctor = call("doctor", HF_HUB_OFFLINE="1")
        names = {f"{model} weights" for model in ("tokenizer", "predictor", "chronos2")}
        weights = [one for one in doctor["checks"] if one["check"] in names]
        assert len(weights) == 3 and all(one["ok"] and "match the lock" in one["found"] for one in weights), weights
        status, result = call("run", HF_HUB_OFFLINE="1")
        assert status == 0, result
        assert len(hub.requests) == asked
    named = {name for part in result["origins"].split("; ") for name in part.split(": ")[0].split(", ")}
    assert {"kronos", "chronos2"} <= named
    counts = {
        row["model"]: row
        for row in project.rows(
            "SELECT model, count(DISTINCT origin) FILTER (in_sample) AS seen, "
            "count(DISTINCT origin) FILTER (NOT in_sample) AS clean, max(origin) FILTER (in_sample) AS last "
            # Not the earlier ones that warm calibration up.
            "FROM forecasts WHERE model IN ('kronos', 'chronos2') AND origin >= '2024-06-28' GROUP BY model"
        )
    }
    assert counts["kronos"]["seen"] == 1 and str(counts["kronos"]["last"]).startswith("2024-06-28")
    assert str(counts["chronos2"]["last"]) <= "2025-10-20" < "2026" and counts["chronos2"]["seen"] > 10
    assert 0 < counts["chronos2"]["clean"] < counts["kronos"]["clean"]
    compared = project.rows("SELECT DISTINCT model, n FROM scoreboard WHERE metric = 'crps' AND horizon = 0")
    assert {row["model"]: row["n"] for row in compared if row["model"] in counts} == {
        model: row["clean"] - 1
        for model, row in counts.items()  # the newest bar is an origin without an outcome
    }
    report = Path(result["report"]).read_text()
    assert "2025-10-20, the day of publication" in report and "2024-06-30" in report
