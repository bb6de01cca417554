"""What holds for every test: one thread per worker where several workers share the cores.

Set before torch, OpenBLAS and the child processes start, which is when they read it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.resources.local_hub import LocalHub, local_hub, use_hub

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A local hub that huggingface_hub asks, with an empty cache."""
    with local_hub() as hub:
        use_hub(monkeypatch, hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub
