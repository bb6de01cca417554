"""Mistakes that would end a run after minutes are found in seconds: by the doctor, and before anything is trained."""

import json
import shutil
from pathlib import Path

import pytest

from assets.training.fit.base_weights import WEIGHTS
from orchestration.cli.doctor import Diagnosis, diagnose
from resources.profiles import load_settings
from tests.orchestration.cli_project import SMALL, CliProject

# What is replaced in the settings, and what the doctor names.
MISTAKES: dict[str, tuple[dict[str, str], str]] = {
    "lookback": (
        {"lookback_window = 32": "lookback_window = 300", "max_context = 64": "max_context = 512"},
        "windows.lookback_window",
    ),
    "no validation": ({"validation = [2009-01-15": "validation = [2009-12-10"}, "windows.validation"),
    "horizon": (
        {"end = 2010-12-31": "end = 2013-03-01", "test = [2010-02-01, 2010-12-31]": "test = [2013-02-26, 2013-03-01]"},
        "windows.predict_window = 4",
    ),
    "symbol": ({'"MSFT"]': '"MSFT", "NOPE"]'}, "market.symbols: no bars of NOPE"),
    "no file": ({'source = "sample"': 'source = "files"\npath = "none/*.csv"'}, "market.path"),
    "no members": ({'source = "sample"': 'source = "sample"\nmembers = "none.csv"'}, "market.members"),
    "members": ({'source = "sample"': 'source = "sample"\nmembers = "members.csv"'}, "no row for IBM"),
    "base": ({'predictor]\nbase = "none"': 'predictor]\nbase = "gone"'}, "predictor.base"),
    "batch": ({"sample.tokenizer]": "sample.tokenizer]\nbatch_size = 5000"}, "tokenizer.batch_size"),
    "context": ({"sample.chronos2]": "sample.chronos2]\ncontext_length = 1500"}, "chronos2.context_length"),
    "expired": (
        {"[profiles.sample.backtest]": "[profiles.sample.promotion]\nexpires_days = 30\n[profiles.sample.backtest]"},
        "promotion.expires_days",
    ),
}


def mistaken(mistake: str) -> str:
    """The settings with a mistake."""
    text = SMALL
    for old, new in MISTAKES[mistake][0].items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def findings(project: CliProject) -> list[Diagnosis]:
    settings = load_settings(project.file, "sample", project.home)
    return [one for one in diagnose(settings) if not one.ok and one.check not in ("home", "device")]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_doctor_finds_a_mistake_without_a_home(tmp_path: Path, mistake: str) -> None:
    (tmp_path / "members.csv").write_text("symbol,start,end\nAAPL,2000-01-03,\nMSFT,2000-01-03,\n")
    project = CliProject(tmp_path, mistaken(mistake))
    found = [one.remedy for one in findings(project)]
    assert found and all(MISTAKES[mistake][1] in text for text in found), found
    assert not project.home.exists()


def test_the_doctor_finds_nothing_in_good_settings(tmp_path: Path) -> None:
    assert findings(CliProject(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["horizon", "base"])
def test_a_mistake_is_refused_before_anything_is_trained(tmp_path: Path, mistake: str) -> None:
    project = CliProject(tmp_path, mistaken(mistake))
    done = project.call("run", "--json")
    assert done.returncode == 1 and MISTAKES[mistake][1] in json.loads(done.stdout)["error"]
    assert not (project.home / "windows").exists() and not (project.home / "checkpoints").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("cut", "model.safetensors is damaged"),
        ("no weights", "no model.safetensors"),
        ("other family", "no weights for kronos_predictor"),
        ("other bits", "8 + 8 bits, the tokenizer writes 4 + 4"),
        ("other shape", "mine"),
        ("", ""),
    ],
)
def test_a_base_is_loaded_from_the_folder_that_training_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, named: str
) -> None:
    """A relative folder is relative to the settings file, wherever the command is called."""
    kind = "chronos2_model" if change == "other family" else "kronos_predictor"
    shutil.copytree(WEIGHTS / kind, tmp_path / "mine")
    weights = tmp_path / "mine" / "model.safetensors"
    if change == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif change == "no weights":
        weights.unlink()
    elif change == "other shape":
        config = tmp_path / "mine" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "d_model": 64}))
    keys = "d_model = 16\nff_dim = 32\nn_heads = 2\nn_layers = 1\n"
    base = SMALL.replace(
        f'[profiles.sample.predictor]\nbase = "none"\n{keys}', '[profiles.sample.predictor]\nbase = "mine"\n'
    )
    if change != "other bits":
        start = base.index("[profiles.sample.tokenizer]")
        end = base.index("[profiles.sample.predictor]")
        base = base[:start] + '[profiles.sample.tokenizer]\nbase = "packaged"\n\n' + base[end:]
    monkeypatch.chdir("/")
    found = findings(CliProject(tmp_path, base))
    assert [named in one.remedy and "predictor.base" in one.remedy for one in found] == [True] * bool(change)
