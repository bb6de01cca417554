"""Models of the hub: fetched once, pinned, verified, resumed; never another revision."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from datetime import date
from pathlib import Path

import pytest

from resources.errors import CandlecastError
from resources.hub_download import fetch_model
from resources.hub_models import locked_model, pinned_model
from resources.layout import Home
from resources.settings import Settings
from tests.orchestration.cli_project import CliProject
from tests.resources.local_hub import LocalHub, use_hub

NAME = "somebody/some-model"
FILES = {"config.json": b'{"d_model": 8}', "model.safetensors": bytes(range(256)) * 64, "README.md": b"# card"}


def set_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_fetched_model_is_pinned_and_needs_no_network_again(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hub.commit(NAME, "2025-10-20", FILES)
    home, settings = Home(tmp_path / "home"), Settings(home=tmp_path / "home")
    with pytest.raises(CandlecastError, match=rf"{NAME} was not fetched.*candlecast fetch --profile sample"):
        pinned_model(settings, NAME, None)
    done = fetch_model(home, NAME, None)
    assert set(done.downloaded) == {"config.json", "model.safetensors"}
    moved_to = hub.commit(NAME, "2026-02-01", {**FILES, "model.safetensors": b"newer"})
    asked = len(hub.requests)
    set_offline(monkeypatch)
    model = pinned_model(settings, NAME, None)
    assert fetch_model(home, NAME, None).downloaded == {} and len(hub.requests) == asked
    assert (model.commit, model.published, model.licence) == (first, date(2025, 10, 20), "apache-2.0")
    assert (model.folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    moved = fetch_model(home, NAME, None, update=True)
    assert (moved.moved_from, moved.model.commit) == (first, moved_to)
    assert pinned_model(settings, NAME, None).published == date(2026, 2, 1)
    with pytest.raises(CandlecastError, match=f"{NAME} at revision {first} was not fetched"):
        pinned_model(settings, NAME, first)


def test_a_truncated_and_an_altered_file_are_named_and_fetched_again(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(NAME, "2025-10-20", FILES)
    home, settings = Home(tmp_path / "home"), Settings(home=tmp_path / "home")
    folder = fetch_model(home, NAME, None).model.folder
    (folder / "model.safetensors").resolve().write_bytes(FILES["model.safetensors"][:100])
    (folder / "config.json").resolve().write_bytes(b'{"d_model": 9}')
    with pytest.raises(CandlecastError, match=r"config\.json does not match.*model\.safetensors has 100 bytes"):
        pinned_model(settings, NAME, None)
    set_offline(monkeypatch)
    with pytest.raises(CandlecastError, match=r"model\.safetensors has 100 bytes.*HF_HUB_OFFLINE"):
        fetch_model(home, NAME, None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert set(fetch_model(home, NAME, None).downloaded) == {"config.json", "model.safetensors"}
    assert pinned_model(settings, NAME, None).folder == folder


def test_bytes_that_were_not_announced_are_refused_and_nothing_is_pinned(hub: LocalHub, tmp_path: Path) -> None:
    hub.commit(NAME, "2025-10-20", FILES)
    hub.sent["model.safetensors"] = FILES["model.safetensors"][::-1]
    with pytest.raises(CandlecastError, match=r"model\.safetensors does not match its digest, as http://127"):
        fetch_model(Home(tmp_path), NAME, None)
    assert locked_model(Home(tmp_path), NAME, None) is None
    hub.sent.clear()
    assert set(fetch_model(Home(tmp_path), NAME, None).downloaded) == {"model.safetensors"}


@pytest.mark.parametrize(
    ("name", "revision", "fact"),
    [
        ("somebody/absent", None, r"has no repository somebody/absent .*HF_TOKEN"),
        (NAME, "v9", rf"{NAME} has no revision v9 at http"),
        ("somebody/pickled", None, r"somebody/pickled has no \*\.safetensors"),
        ("somebody/outside", None, r"announces '\.\./model\.safetensors'"),
    ],
)
def test_what_the_hub_does_not_have_is_named(
    hub: LocalHub, tmp_path: Path, name: str, revision: str | None, fact: str
) -> None:
    hub.commit(NAME, "2025-10-20", FILES)
    hub.commit("somebody/pickled", "2025-10-20", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    hub.commit("somebody/outside", "2025-10-20", {"../model.safetensors": b"x"})
    with pytest.raises(CandlecastError, match=fact):
        fetch_model(Home(tmp_path), name, revision)


def test_an_unreachable_hub_is_named_with_its_address_and_a_remedy(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(CandlecastError, match=rf"{NAME}: the hub at http://127\.0\.0\.1:9 .*HF_ENDPOINT.*folder"):
        fetch_model(Home(tmp_path), NAME, None)


def test_a_killed_fetch_continues_where_it_stopped(hub: LocalHub, tmp_path: Path) -> None:
    large = os.urandom(24 * 2**20)
    hub.commit(NAME, "2025-10-20", {"config.json": b"{}", "model.safetensors": large})
    hub.stop_after = 22 * 2**20
    project = CliProject(tmp_path)
    environment = {**project.environment(), "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = project.command("fetch", NAME)
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not any(file.stat().st_size for file in (tmp_path / "hf").rglob("*.partial")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (project.home / "hub.json").exists()
    hub.stop_after = None
    hub.resumed.set()
    hub.requests.clear()
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ((name, span),) = hub.downloads
    assert name == "model.safetensors" and int(span.removeprefix("bytes=").rstrip("-")) > 0
    (weights,) = (tmp_path / "hf").rglob("snapshots/*/model.safetensors")
    assert weights.read_bytes() == large


def test_a_cache_that_cannot_be_written_is_named(hub: LocalHub, tmp_path: Path) -> None:
    hub.commit(NAME, "2025-10-20", FILES)
    blobs = tmp_path / "cache" / "models--somebody--some-model"
    blobs.parent.mkdir()
    blobs.write_text("not a folder")
    with pytest.raises(CandlecastError, match=r"could not be written to .*models--somebody--some-model.*HF_HOME"):
        fetch_model(Home(tmp_path), NAME, None)
