"""The training stage as a graph: checkpoints are built once, found again, and independent of later bars."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from assets.market.history import read_histories
from assets.training.assets import build_assets
from assets.training.build_checkpoint import build_checkpoint
from assets.training.checkpoint_request import checkpoint_request
from assets.training.data.current_windows import TrainingWindows, current_windows, set_current_windows
from assets.training.data.dataset import write_arrays
from assets.training.data.windows import build_windows
from assets.training.fit.base_weights import WEIGHTS
from assets.training.model_card import render_model_card
from assets.training.worker.job import TrainingJob, TrainingResult
from assets.training.worker.pipes_client import run_job
from assets.training.worker.worker import run
from resources.candlecast import Candlecast
from resources.checkpoints import UNNAMED, Checkpoint, CheckpointStore
from resources.errors import CandlecastError
from resources.layout import Home
from resources.progress import Progress, ProgressUpdate, observed
from resources.publish import digest_of, digest_of_folder, publishing_folder
from resources.settings import Chronos2Settings, ComputeSettings, Settings, TokenizerSettings
from resources.warehouse import Warehouse
from tests.training.training_setup import (
    CUTOFF,
    PREDICTOR,
    TOKENIZER,
    WINDOWS,
    filled_home,
    sample_rows,
    small_settings,
)

CHAIN = ["training_windows", "kronos_tokenizer", "kronos_predictor"]


def materialise(settings: Settings, home: Home, warehouse: Warehouse, names: list[str]) -> dg.ExecuteInProcessResult:
    upstream = [dg.AssetSpec("bars"), dg.AssetSpec("corporate_actions")]
    return dg.materialize(
        [*upstream, *build_assets(dg.DailyPartitionsDefinition("2000-03-01"))],
        selection=names,
        resources={"candlecast": Candlecast(settings, warehouse=warehouse)},
    )


def in_process(job: TrainingJob, progress: Progress) -> TrainingResult:
    run(job)
    return TrainingResult.model_validate_json((job.out / "result.json").read_text())


def build_kronos_chain(
    home: Home, warehouse: Warehouse, settings: Settings
) -> tuple[TrainingWindows, Checkpoint, Checkpoint]:
    found = build_windows(read_histories(warehouse, "1d"), settings.windows)
    folder = home.windows / found.digest
    if not folder.is_dir():
        folder.mkdir(parents=True)
        write_arrays(folder, found.arrays, dict(found.manifest))
    windows, store = TrainingWindows(found.digest, folder), CheckpointStore(home)
    tokenizer = build_checkpoint(
        checkpoint_request("kronos_tokenizer", settings, windows), settings, home, store, windows, run=in_process
    )
    request = checkpoint_request("kronos_predictor", settings, windows, tokenizer)
    return windows, tokenizer, build_checkpoint(request, settings, home, store, windows, run=in_process)


def files(home: Home) -> dict[Path, int]:
    return {f: f.stat().st_mtime_ns for f in home.root.rglob("*") if f.is_file() and "scratch" not in f.parts}


def test_training_with_and_without_later_bars_gives_equal_digests(tmp_path: Path) -> None:
    rows = sample_rows()
    known = rows["Date"] <= pd.Timestamp("2004-06-30")
    changed = rows.copy()
    later = rows["Date"] > pd.Timestamp(CUTOFF)
    changed.loc[later, ["Open", "High", "Low", "Close", "Volume"]] *= 3
    digests = []
    for name, bars in (("all", rows), ("fewer", rows[known]), ("other", changed)):
        home, warehouse = filled_home(tmp_path / name, bars)
        windows, tokenizer, predictor = build_kronos_chain(home, warehouse, small_settings(home))
        digests.append((windows.digest, tokenizer.digest, predictor.digest))
        assert predictor.cutoff == CUTOFF
    assert digests[0] == digests[1] == digests[2]


def test_a_card_holds_the_provenance_of_the_weights(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    chosen = PREDICTOR.model_copy(update={"select_origins": 2, "select_paths": 30})
    windows, tokenizer, predictor = build_kronos_chain(home, warehouse, small_settings(home, predictor=chosen))
    card = predictor.card
    assert card["tokenizer"] == tokenizer.digest and card["data_hash"] == windows.digest and card["seed"] == 7
    assert card["base"]["weights"] == "none, from scratch" and card["licence"] == "MIT"
    assert card["training"]["train"]["windows"] > 0 and card["scores"]["crps"] > 0
    candidates = card["scores"]["candidates"]
    assert len(candidates) == 3 and card["scores"]["chosen"] == min(
        candidates, key=lambda name: candidates[name]["crps"]
    )
    assert len(card["scores"]["drift"]["histogram"]) == 16
    readme = (predictor.folder / "README.md").read_text()
    assert f"{card['scores']['chosen']} (selected)" in readme
    assert readme.startswith("---\nlicense: mit") and str(CUTOFF) in readme and windows.digest in readme
    for name in ("curves.png", "codebook.png", "reconstruction.png"):
        assert (tokenizer.folder / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["kronos_tokenizer", "kronos_predictor", "chronos2_model"])
def test_a_packaged_checkpoint_matches_its_digest_and_its_rendered_card(kind: str) -> None:
    folder = WEIGHTS / kind
    card = json.loads((folder / "card.json").read_text())
    assert digest_of_folder(folder, UNNAMED) == card["digest"]
    assert (folder / "README.md").read_text() == render_model_card(card)


def test_the_cutoff_of_fine_tuned_weights_is_the_later_of_base_and_data(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    settings = small_settings(home)
    _, tokenizer, _ = build_kronos_chain(home, warehouse, settings)
    tuned = settings.tokenizer.model_copy(update={"base": str(tokenizer.folder), "epochs": 1})
    _, second, _ = build_kronos_chain(home, warehouse, small_settings(home, tokenizer=tuned))
    assert second.cutoff == CUTOFF and second.card["base"]["cutoff"] == str(CUTOFF)
    assert second.trained_until == tokenizer.trained_until == WINDOWS.train[1]


def test_the_micro_batch_is_in_a_recipe_only_if_the_weights_depend_on_it(tmp_path: Path) -> None:
    home, windows = Home(tmp_path), TrainingWindows("0" * 64, tmp_path)

    def recipe(micro_batch: int | None) -> dict[str, object]:
        tokenizer = TOKENIZER.model_copy(update={"micro_batch": micro_batch})
        return checkpoint_request("kronos_tokenizer", small_settings(home, tokenizer=tokenizer), windows).recipe

    full_batch = recipe(None)
    assert recipe(TOKENIZER.batch_size) == full_batch and "micro_batch" not in full_batch["settings"]  # type: ignore[operator]
    assert recipe(4)["settings"] == {**full_batch["settings"], "micro_batch": 4}  # type: ignore[dict-item]
    frozen = Checkpoint("kronos_tokenizer", "0" * 64, tmp_path, {})
    recipes = [
        checkpoint_request("kronos_predictor", small_settings(home, predictor=predictor), windows, frozen).recipe
        for predictor in (PREDICTOR, PREDICTOR.model_copy(update={"micro_batch": 4}))
    ]
    assert recipes[0] == recipes[1]


def test_damaged_windows_are_named_and_not_trained_on(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with publishing_folder(home.windows / ("a" * 64), home.scratch / "windows") as folder:
        (folder / "bars.npy").write_bytes(bytes(128))
    set_current_windows(home, "a" * 64)
    assert current_windows(home).folder == home.windows / ("a" * 64)
    (home.windows / ("a" * 64) / "bars.npy").write_bytes(bytes(127) + b"1")
    with pytest.raises(CandlecastError, match=r"windows/a+ is damaged.*candlecast doctor --repair"):
        current_windows(home)


def test_everything_that_the_weights_depend_on_changes_the_recipe(tmp_path: Path) -> None:
    """Otherwise the checkpoint of other data or settings is found, and nothing is trained."""
    home, windows = Home(tmp_path), TrainingWindows("0" * 64, tmp_path)
    frozen = Checkpoint("kronos_tokenizer", "0" * 64, tmp_path, {})

    def recipe(data: TrainingWindows = windows, tokenizer: Checkpoint = frozen, **changes: object) -> str:
        settings = small_settings(home, **changes)
        return digest_of(checkpoint_request("kronos_predictor", settings, data, tokenizer).recipe)

    changed = [
        recipe(data=replace(windows, digest="1" * 64)),
        recipe(tokenizer=replace(frozen, digest="1" * 64)),
        recipe(seed=8),
        recipe(windows=WINDOWS.model_copy(update={"clip": 4.0})),
        recipe(windows=WINDOWS.model_copy(update={"fill": "forward"})),
        recipe(predictor=PREDICTOR.model_copy(update={"learning_rate": 2e-3})),
        recipe(compute=ComputeSettings(device="cpu", dtype="bfloat16")),
        recipe(compute=ComputeSettings(device="cpu", processes=2)),
    ]
    assert len({recipe(), *changed}) == len(changed) + 1
    assert recipe(compute=ComputeSettings(device="cpu", threads=2)) == recipe(
        data=replace(windows, folder=home.windows)
    )
    base = tmp_path / "base"
    shutil.copytree(WEIGHTS / "chronos2_model", base)
    settings = small_settings(home, chronos2=Chronos2Settings(base=str(base), targets=("standardised_close",)))
    before = checkpoint_request("chronos2_model", settings, windows).recipe
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    after = checkpoint_request("chronos2_model", settings, windows).recipe
    assert before.keys() == after.keys() and before != after


def test_a_missing_base_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    windows = TrainingWindows("0" * 64, tmp_path)
    for base, fact in (("no such folder", "no such folder"), ("none", "epochs")):
        settings = small_settings(home, tokenizer=TOKENIZER.model_copy(update={"base": base, "epochs": 0}))
        with pytest.raises(CandlecastError, match=fact):
            checkpoint_request("kronos_tokenizer", settings, windows)
    with pytest.raises(CandlecastError, match="materialise the asset `kronos_tokenizer` first"):
        checkpoint_request("kronos_predictor", small_settings(home), windows)
    with pytest.raises(CandlecastError, match="materialise the asset `training_windows` first"):
        current_windows(home)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, warehouse = filled_home(tmp_path)
    build_kronos_chain(home, warehouse, small_settings(home))
    before = files(home)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(OSError, match="No space left"):
        build_kronos_chain(home, warehouse, small_settings(home, seed=8))
    assert files(home) == before


def test_a_shape_that_the_base_does_not_have_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    windows = TrainingWindows("0" * 64, tmp_path)
    asked = TokenizerSettings(base="packaged", d_model=128)
    with pytest.raises(CandlecastError, match=r"tokenizer.d_model = 128, but the base .* was built with 64"):
        checkpoint_request("kronos_tokenizer", small_settings(home, tokenizer=asked), windows)
    request = checkpoint_request(
        "kronos_tokenizer", small_settings(home, tokenizer=TokenizerSettings(base="packaged")), windows
    )
    assert (str(request.base.cutoff), str(request.base.trained_until)) == ("2010-12-31", "2009-12-31")


@pytest.mark.parametrize(
    ("name", "content"), [("card.json", b"{"), ("config.json", b"\xff\xfe"), ("card.json", b"[1]")]
)
def test_a_damaged_base_is_refused_by_file(name: str, content: bytes, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(WEIGHTS / "kronos_tokenizer", base)
    (base / name).write_bytes(content)
    settings = small_settings(Home(tmp_path), tokenizer=TokenizerSettings(base=str(base)))
    with pytest.raises(CandlecastError, match=rf"base/{name} is damaged"):
        checkpoint_request("kronos_tokenizer", settings, TrainingWindows("0" * 64, tmp_path))


@pytest.mark.slow
def test_the_chain_is_built_once_and_found_again_without_torch(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    settings = small_settings(home)
    reports: list[ProgressUpdate] = []
    with observed(reports.append):
        first = materialise(settings, home, warehouse, [*CHAIN, "chronos2_model"])
    assert all(check.passed for check in first.get_asset_check_evaluations())
    assert {report.asset for report in reports} >= {"kronos_tokenizer", "kronos_predictor", "chronos2_model"}
    before = files(home)
    script = (
        "import sys; from pathlib import Path; from training_setup import *;"
        "from test_training_assets import materialise;"
        f"home = Home(Path({str(tmp_path)!r}));"
        "r = materialise(small_settings(home), home, Warehouse(home.warehouse), "
        f"{[*CHAIN, 'chronos2_model']!r});"
        "print('TORCH' if 'torch' in sys.modules else 'LIGHT')"
    )
    light = "import sys; sys.modules['safetensors.torch'] = None; "
    again = subprocess.run(
        [sys.executable, "-c", light + script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert "LIGHT" in again.stdout, again.stderr[-2000:]
    assert files(home) == before


@pytest.mark.slow
def test_a_killed_process_resumes_to_identical_weights(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    long = TOKENIZER.model_copy(update={"epochs": 4, "steps_per_epoch": 40})
    settings = small_settings(home, tokenizer=long)
    found = build_windows(read_histories(warehouse, "1d"), settings.windows)
    folder = home.windows / found.digest
    folder.mkdir(parents=True)
    write_arrays(folder, found.arrays, dict(found.manifest))
    set_current_windows(home, found.digest)
    windows = current_windows(home)
    request = checkpoint_request("kronos_tokenizer", settings, windows)

    def killing(done: int, total: int, note: str = "") -> None:
        if done >= 60:
            me = os.getpid()
            children = subprocess.run(["pgrep", "-P", str(me)], capture_output=True, text=True, check=True).stdout
            for child in children.split():
                if b"assets.training.worker.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)

    with pytest.raises(CandlecastError, match="ended by signal 9"):
        build_checkpoint(request, settings, home, CheckpointStore(home), windows, killing)
    assert not CheckpointStore(home).all("kronos_tokenizer")
    resumed = build_checkpoint(request, settings, home, CheckpointStore(home), windows)
    other_home = Home(tmp_path / "other")
    undisturbed = build_checkpoint(request, settings, other_home, CheckpointStore(other_home), windows)
    assert resumed.digest == undisturbed.digest


@pytest.mark.slow
def test_two_processes_train_like_one_with_twice_the_batch(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    quiet = PREDICTOR.model_copy(update={"ffn_dropout_p": 0.0, "resid_dropout_p": 0.0})
    settings = small_settings(home, predictor=quiet)
    windows, tokenizer, _ = build_kronos_chain(home, warehouse, settings)
    curves = []
    for processes, batch in ((1, 32), (2, 16)):
        predictor = quiet.model_copy(update={"batch_size": batch})
        compute = ComputeSettings(device="cpu", threads=1, processes=processes)
        wanted = small_settings(home, predictor=predictor, compute=compute)
        request = checkpoint_request("kronos_predictor", wanted, windows, tokenizer)
        checkpoint = build_checkpoint(request, wanted, home, CheckpointStore(home), windows)
        curves.append((checkpoint.card["curves"], load_file(checkpoint.folder / "model.safetensors")))
    (one, ours), (two, theirs) = curves
    assert [s for s, _ in one["train"]] == [s for s, _ in two["train"]]
    for (_, a), (_, b) in zip(one["train"], two["train"], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    for a, b in zip(one["validation"], two["validation"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    assert ours.keys() == theirs.keys()
    # The order of summation differs. One window less in a batch, or one step more, changes weights 100 times as much.
    for name, tensor in ours.items():
        np.testing.assert_allclose(theirs[name], tensor, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_a_killed_worker_among_several_fails_the_fit_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    windows, tokenizer, first = build_kronos_chain(home, warehouse, small_settings(home))
    store = CheckpointStore(home)
    store.set_current("kronos_predictor", first.digest)
    long = PREDICTOR.model_copy(update={"epochs": 4, "steps_per_epoch": 60})
    compute = ComputeSettings(device="cpu", threads=1, processes=2)
    settings = small_settings(home, predictor=long, compute=compute)
    request = checkpoint_request("kronos_predictor", settings, windows, tokenizer)

    def killing(done: int, total: int, note: str = "") -> None:
        for file in Path("/proc").glob("[0-9]*/environ"):
            try:
                worker = b"\0LOCAL_RANK=1\0" in file.read_bytes()
                own = str(tmp_path).encode() in (file.parent / "cmdline").read_bytes()
            except OSError:
                continue
            if worker and own:
                os.kill(int(file.parent.name), signal.SIGKILL)

    with pytest.raises(CandlecastError, match=r"one of several workers was lost|the process ended with code 1"):
        build_checkpoint(request, settings, home, store, windows, killing)
    assert store.all("kronos_predictor") == [first]
    used = store.current("kronos_predictor")
    assert used is not None and used.digest == first.digest


@pytest.mark.slow
def test_a_failed_process_reports_its_error(tmp_path: Path) -> None:
    home, warehouse = filled_home(tmp_path)
    settings = small_settings(home, tokenizer=TOKENIZER.model_copy(update={"batch_size": 100_000}))
    found = build_windows(read_histories(warehouse, "1d"), settings.windows)
    folder = home.windows / found.digest
    folder.mkdir(parents=True)
    write_arrays(folder, found.arrays, dict(found.manifest))
    windows = TrainingWindows(found.digest, folder)
    with pytest.raises(CandlecastError, match=r"kronos_tokenizer: batch_size 100000 .* lower batch_size"):
        build_checkpoint(
            checkpoint_request("kronos_tokenizer", settings, windows),
            settings,
            home,
            CheckpointStore(home),
            windows,
            run=run_job,
        )
