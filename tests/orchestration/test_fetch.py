"""`candlecast fetch`: which models of a profile it fetches, and what it says of them."""

from pathlib import Path

import pytest

from orchestration.cli.fetch import fetch
from resources.errors import CandlecastError
from resources.hub_models import locked_model
from resources.layout import Home
from resources.settings import Chronos2Settings, ModelSettings, Settings
from tests.resources.local_hub import LocalHub

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 50}
CHRONOS, OTHER = "somebody/some-chronos", "somebody/other"


def profile(home: Path) -> Settings:
    """A base from the hub, and a model with weights of its own in its options."""
    return Settings(
        home=home,
        root=home,
        chronos2=Chronos2Settings(base=CHRONOS, mode="zero-shot"),
        models={"mine": ModelSettings(factory="package.module:function", options={"model": OTHER, "context": 64})},
    )


def test_all_models_of_the_profile_are_fetched_or_those_that_are_named(hub: LocalHub, tmp_path: Path) -> None:
    commits = {name: hub.commit(name, "2025-10-20", FILES) for name in (CHRONOS, OTHER, "somebody/third")}
    settings, home = profile(tmp_path / "home"), Home(tmp_path / "home")
    done = fetch(settings, ["chronos2", f"somebody/third@{commits['somebody/third']}"], update=False)
    assert [one["repository"] for one in done["models"]] == [CHRONOS, "somebody/third"]
    assert locked_model(home, OTHER, None) is None
    done = fetch(settings, [], update=False)
    assert [(one["repository"], bool(one["downloaded"])) for one in done["models"]] == [(CHRONOS, False), (OTHER, True)]
    assert "2025-10-20" in done["text"] and commits[OTHER][:12] in done["text"]
    assert "nothing to fetch" in fetch(Settings(home=tmp_path), [], update=False)["text"]
    with pytest.raises(CandlecastError, match=r"nonsense is no model of profile sample .*chronos2, mine"):
        fetch(settings, ["nonsense"], update=False)


def test_a_model_that_cannot_be_fetched_does_not_stop_the_others(hub: LocalHub, tmp_path: Path) -> None:
    hub.commit(OTHER, "2025-10-20", FILES)
    with pytest.raises(CandlecastError, match=rf"(?s){OTHER} .*chronos2\.base: .*no repository {CHRONOS}"):
        fetch(profile(tmp_path / "home"), [], update=False)
    assert locked_model(Home(tmp_path / "home"), OTHER, None) is not None
