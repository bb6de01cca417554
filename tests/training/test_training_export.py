"""Exported checkpoints load in the authors' package, in ours, and from a hub."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from assets.training.export import export, push
from assets.training.fit.predictor import new_predictor
from assets.training.fit.tokenizer import new_tokenizer
from kronos import Kronos, KronosTokenizer, Normalisation
from resources.checkpoints import CheckpointStore
from resources.errors import CandlecastError
from resources.layout import Home
from tests.training.training_setup import PREDICTOR, TOKENIZER


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(Home(tmp_path / "home"))
    torch.manual_seed(7)
    tokenizer = new_tokenizer(TOKENIZER)
    predictor = new_predictor(PREDICTOR, tokenizer)
    rule = Normalisation()
    first = store.publish(
        "kronos_tokenizer", {"r": 1}, lambda f: void(tokenizer.save_pretrained(f, normalisation=rule)), {}
    )
    second = store.publish(
        "kronos_predictor",
        {"r": 2},
        lambda f: void(predictor.save_pretrained(f, normalisation=rule)),
        {"tokenizer": first.digest},
    )
    store.set_current("kronos_predictor", second.digest)
    return store


def void(_: object) -> None:
    return None


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's API that creates a repository and commits files to it."""

    repositories: dict[str, dict[str, bytes]]
    server: ThreadingHTTPServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        here = f"http://127.0.0.1:{self.server.server_port}"
        if self.path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given.get('organization') or 'me'}/{given['name']}"
            self.repositories[name] = {}
            return self._answer({"url": f"{here}/{name}", "name": name})
        if self.path.endswith("/preupload/main"):
            files = [{"path": f["path"], "uploadMode": "regular"} for f in json.loads(body)["files"]]
            return self._answer({"files": [{**f, "shouldIgnore": False} for f in files]})
        if self.path.endswith("/commit/main"):
            name = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.repositories[name][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self._answer({"commitOid": "0" * 40, "commitUrl": f"{here}/{name}/commit/{'0' * 40}"})
        return self._answer({})

    def do_GET(self) -> None:
        self._answer({"error": "no such thing"}, 404)

    def log_message(self, *_: object) -> None: ...

    def _answer(self, content: object, status: int = 200) -> None:
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, bytes]]]:
    Hub.repositories = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub.repositories
    server.shutdown()


def test_an_exported_champion_loads_in_the_authors_package(store: CheckpointStore, tmp_path: Path) -> None:
    authors = pytest.importorskip("model.kronos")
    folders = export(store, "kronos_predictor", tmp_path / "out")
    ours = Kronos.from_pretrained(folders["predictor"])
    theirs = authors.Kronos.from_pretrained(str(folders["predictor"]))
    assert all(torch.equal(a, theirs.state_dict()[name]) for name, a in ours.state_dict().items())
    x = torch.randn(2, 20, 6, generator=torch.Generator().manual_seed(7))
    one, other = (
        load.from_pretrained(str(folders["tokenizer"])).eval() for load in (KronosTokenizer, authors.KronosTokenizer)
    )
    for a, b in zip(one.encode(x, half=True), other.encode(x, half=True), strict=True):
        assert torch.equal(a, b)


def test_an_export_never_overwrites(store: CheckpointStore, tmp_path: Path) -> None:
    export(store, "kronos_predictor", tmp_path / "out")
    with pytest.raises(CandlecastError, match="exists already"):
        export(store, "kronos_predictor", tmp_path / "out")
    with pytest.raises(CandlecastError, match="no chronos2_model in use to export"):
        export(store, "chronos2_model", tmp_path / "other")


def test_an_export_is_complete_or_absent(
    store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "tokenizer").mkdir(parents=True)
    with pytest.raises(CandlecastError, match="tokenizer exists already"):
        export(store, "kronos_predictor", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["tokenizer"]

    def full(folder: Path, destination: Path) -> None:
        if destination.name == "tokenizer":
            raise OSError(28, "No space left on device")
        folder.rename(destination)

    monkeypatch.setattr("assets.training.export.publish_folder", full)
    with pytest.raises(CandlecastError, match=r"nothing was exported to .*No space left"):
        export(store, "kronos_predictor", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_an_export_to_a_file_is_refused(store: CheckpointStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CandlecastError, match=r"nothing was exported to .*file"):
        export(store, "kronos_predictor", tmp_path / "file")


def test_a_push_puts_the_same_files_on_the_hub(
    store: CheckpointStore, hub: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    folders = export(store, "kronos_predictor", tmp_path / "out")
    addresses = push(folders, "me/mine")
    assert len(addresses) == 2 and set(hub) == {"me/mine-predictor", "me/mine-tokenizer"}
    for part, folder in folders.items():
        sent = hub[f"me/mine-{part}"]
        assert sent["model.safetensors"] == (folder / "model.safetensors").read_bytes()
        assert {"config.json", "normalisation.json", "card.json"} <= set(sent)


def test_an_unreachable_hub_is_an_error_with_a_remedy(
    store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    folders = export(store, "kronos_predictor", tmp_path / "out")
    with pytest.raises(CandlecastError, match=r"could not be uploaded to http://127.0.0.1:9.*Check HF_TOKEN"):
        push(folders, "me/mine")
    assert (folders["predictor"] / "model.safetensors").is_file()
