"""Checkpoints: the published layout, reading and writing, and which folders are refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kronos import CheckpointError, Kronos, KronosTokenizer, Normalisation
from tests.kronos.kronos_pairs import TINY, Pair


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    mine: dict[str, torch.Tensor] = a.state_dict()
    theirs: dict[str, torch.Tensor] = b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_authors_package_and_ours_load_each_others_checkpoints(tiny: Pair, tmp_path: Path) -> None:
    tiny.their_model.save_pretrained(tmp_path / "model")
    tiny.their_tokenizer.save_pretrained(tmp_path / "tokenizer")
    model = Kronos.from_pretrained(tmp_path / "model")
    tokenizer = KronosTokenizer.from_pretrained(str(tmp_path / "tokenizer"))
    assert same(model, tiny.their_model)
    assert same(tokenizer, tiny.their_tokenizer)
    assert not model.training
    model.save_pretrained(tmp_path / "mine", normalisation=Normalisation(clip=4.0))
    tokenizer.save_pretrained(tmp_path / "mine_tokenizer")
    assert same(type(tiny.their_model).from_pretrained(tmp_path / "mine"), tiny.their_model)
    assert same(type(tiny.their_tokenizer).from_pretrained(tmp_path / "mine_tokenizer"), tiny.their_tokenizer)
    assert Kronos.from_pretrained(tmp_path / "mine").normalisation == Normalisation(clip=4.0)


def test_a_hub_repository_loads_and_an_unknown_one_is_named(tiny_model: Kronos, tmp_path: Path) -> None:
    class Hub(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return super().translate_path(path.replace("/resolve/main", ""))

        def end_headers(self) -> None:
            self.send_header("ETag", f'"{hashlib.sha256(self.path.encode()).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    tiny_model.save_pretrained(tmp_path / "hub" / "NeoQuasar" / "Kronos-tiny")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(tmp_path / "hub")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "from kronos import Kronos, CheckpointError\n"
        "print(Kronos.from_pretrained('NeoQuasar/Kronos-tiny').config.d_model)\n"
        "try: Kronos.from_pretrained('NeoQuasar/Kronos-none')\n"
        "except CheckpointError as error: print(error)\n"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    try:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stderr
    width, message = done.stdout.strip().splitlines()
    assert width == str(TINY.d_model)
    assert "Kronos-none" in message


@pytest.fixture
def folder(tiny_model: Kronos, tmp_path: Path) -> Path:
    return tiny_model.save_pretrained(tmp_path / "checkpoint", normalisation=Normalisation())


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_pickled_weights_are_refused_without_opening_them(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        Kronos.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"\x80\x04garbage")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not"):
        Kronos.from_pretrained(folder)


def test_a_checkpoint_that_does_not_fit_its_config_is_refused(folder: Path) -> None:
    rewrite(folder / "config.json", s1_bits=5)
    with pytest.raises(CheckpointError, match=r"emb_s1\.weight .*\(64, 48\)"):
        Kronos.from_pretrained(folder)
    rewrite(folder / "config.json", s1_bits=6, n_layers=3)
    with pytest.raises(CheckpointError, match=r"missing \['transformer.2"):
        Kronos.from_pretrained(folder)
    rewrite(folder / "config.json", n_layers=2, colour="red")
    with pytest.raises(CheckpointError, match="unknown colour"):
        Kronos.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="TokenizerConfig"):
        KronosTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"d_model": "48"},
        {"d_model": None},
        {"d_model": 44, "n_heads": 2},
        {"n_heads": 4.0},
        {"n_heads": 0},
        {"n_layers": -1},
        {"s1_bits": True},
        {"ffn_dropout_p": "none"},
        {"attn_dropout_p": 1.5},
        {"learn_te": "no"},
    ],
    ids=str,
)
def test_a_config_with_invalid_values_is_refused_by_key(folder: Path, changes: dict[str, object]) -> None:
    rewrite(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=rf"checkpoint/config\.json: KronosConfig: .*{next(iter(changes))}="):
        Kronos.from_pretrained(folder)


def test_an_invalid_group_size_is_refused(tiny_tokenizer: KronosTokenizer, tmp_path: Path) -> None:
    tiny_tokenizer.save_pretrained(tmp_path)
    for wrong in ({"group_size": 0}, {"group_size": 4, "beta": "x"}):
        rewrite(tmp_path / "config.json", **wrong)
        with pytest.raises(CheckpointError, match=r"group_size=0|beta='x'"):
            KronosTokenizer.from_pretrained(tmp_path)


def test_a_config_that_is_not_utf8_is_refused(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Kronos.from_pretrained(folder)


def test_quantised_weights_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["norm.weight"] = weights["norm.weight"].to(torch.int8)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"norm\.weight .*torch\.int8"):
        Kronos.from_pretrained(folder)


def test_a_model_saved_over_another_does_not_keep_its_normalisation(folder: Path, tiny_model: Kronos) -> None:
    tiny_model.save_pretrained(folder)
    assert Kronos.from_pretrained(folder).normalisation is None


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"norm\.weight .*NaN"):
        Kronos.from_pretrained(folder)


def test_another_normalisation_version_is_refused(folder: Path) -> None:
    rewrite(folder / "normalisation.json", missing_volume="mean")
    with pytest.raises(CheckpointError, match=r"normalisation\.json .*'mean'"):
        Kronos.from_pretrained(folder)
    rewrite(folder / "normalisation.json", version=0)
    with pytest.raises(CheckpointError, match="version 0"):
        Kronos.from_pretrained(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json and model\.safetensors"):
        Kronos.from_pretrained(tmp_path)
