"""Mistakes that would end a run after minutes are found in seconds: by the doctor, and before anything is trained."""

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.market.history import BarHistory
from assets.training.fit.base_weights import WEIGHTS
from orchestration.cli.doctor import Diagnosis, diagnose
from orchestration.cli.preflight import cutoff_problems
from resources.calendar import TradingCalendar
from resources.profiles import load_settings
from resources.settings import Chronos2Settings, PredictorSettings, Settings, TokenizerSettings, WindowSettings
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
    "no events": (
        {"sample.chronos2]": 'sample.chronos2]\nevents = "none.csv"\nfuture_covariates = ["meeting"]'},
        "chronos2.events",
    ),
    "no groups": ({"sample.chronos2]": 'sample.chronos2]\ngroups = "none.csv"'}, "chronos2.groups"),
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


def test_a_run_that_could_score_nothing_is_refused_with_the_cutoffs(tmp_path: Path) -> None:
    """The packaged weights end with 2010; one model that was trained on earlier bars alone is enough."""
    calendar = TradingCalendar("XNYS")
    days = calendar.sessions(date(2009, 1, 2), date(2010, 12, 30)).to_numpy().astype("datetime64[s]")
    ones = np.ones(len(days))
    history = BarHistory("ANY", days, np.ones((len(days), 6)), ones, ones, days.astype("datetime64[D]"))
    windows = WindowSettings(
        train=(date(2005, 1, 3), date(2008, 12, 31)),
        validation=(date(2009, 1, 2), date(2009, 12, 31)),
        test=(date(2010, 1, 4), date(2011, 6, 30)),
    )
    packaged: dict[str, Any] = {"tokenizer": TokenizerSettings(base="packaged", epochs=0), "windows": windows}
    packaged |= {"predictor": PredictorSettings(base="packaged", epochs=0)}
    seen = Settings(home=tmp_path, chronos2=Chronos2Settings(base="packaged", mode="zero-shot"), **packaged)
    (problem,) = cutoff_problems(seen, {"ANY": history}, calendar)
    assert all(
        text in problem for text in ("windows.test", "the last 2010-12-", "predictor: cutoff 2010-12-31", "chronos2")
    )
    own = Settings(home=tmp_path, chronos2=Chronos2Settings(base="none"), **packaged)
    assert cutoff_problems(own, {"ANY": history}, calendar) == []


def test_the_doctor_names_the_command_that_fetches_what_is_missing(tmp_path: Path) -> None:
    base = '[profiles.sample.chronos2]\nbase = "somebody/some-chronos"\nmode = "zero-shot"'
    text = SMALL.replace('[profiles.sample.chronos2]\nbase = "none"', base)
    for key in ("steps = 10\n", "d_ff = 32\nnum_layers = 1\nnum_heads = 2\n"):
        text = text.replace(key, "")
    text += '[profiles.sample.models.other]\noptions = {model = "somebody/other", revision = "v2"}\n'
    found = [one for one in findings(CliProject(tmp_path, text)) if one.check in ("chronos2 weights", "other weights")]
    assert ["candlecast fetch --profile sample`" in one.remedy for one in found] == [True, True]
    assert "somebody/other at revision v2" in found[1].remedy
