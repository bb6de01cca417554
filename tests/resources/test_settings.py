"""Settings files: inheritance of profiles, overrides by the environment, and errors that name the key."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from resources.errors import SettingsError
from resources.profiles import load_settings
from resources.settings import Settings, WindowSettings

Written = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    for name in ("CANDLECAST_SETTINGS", "CANDLECAST_PROFILE", "CANDLECAST_HOME"):
        monkeypatch.delenv(name, raising=False)

    def write(text: str) -> Path:
        file = tmp_path / "candlecast.toml"
        file.write_text(text)
        return file

    return write


def test_a_profile_inherits_the_keys_that_it_does_not_set(written: Written) -> None:
    file = written(
        "[profiles.sample.windows]\nlookback_window = 60\n"
        '[profiles.mine.market]\nsource = "files"\npath = "bars/*.csv"\nsymbols = ["A", "B"]\n'
    )
    settings = load_settings(file, "mine")
    assert settings.windows.lookback_window == 60
    assert settings.market.symbols == ("A", "B")
    assert settings.root == file.parent
    assert settings.home == file.parent / "data"


def test_a_context_beyond_that_of_the_base_is_warned_of_with_both_numbers(
    written: Written, caplog: pytest.LogCaptureFixture
) -> None:
    text = '[profiles.sample.predictor]\nbase = "NeoQuasar/Kronos-{}"\n[profiles.sample.windows]\nmax_context = {}\n'
    for size, context in (("small", 512), ("mini", 2048)):
        load_settings(written(text.format(size, context)))
        assert not caplog.records
        load_settings(written(text.format(size, context + 88)))
        assert f"windows.max_context is {context + 88}" in caplog.text and f"windows of {context} bars" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("[profiles.sample.models.kronos]", "kronos"),
        ("[profiles.sample.models.baseline]", "baseline"),
        ("[profiles.sample.models.benchmark]", "benchmark"),
        ('[profiles.sample.models."two words"]', "two words"),
        ("[profiles.sample.models.Theta]\n[profiles.sample.models.theta]", "case alone"),
        ('[profiles.sample.models.theta]\nfactory = "a b:c"', "models.theta.factory"),
        ("[profiles.sample.models.theta]\nspeed = 3", "factory, licence, options"),
    ],
)
def test_a_model_with_a_name_that_is_taken_or_a_wrong_key_is_refused(written: Written, table: str, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(written(table + "\n"))
    assert named in str(refused.value) and "models" in str(refused.value)


def test_the_environment_overrides_a_key_of_a_model(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written("[profiles.sample.models.theta]\nfactory = 'package.module:make'\noptions = { season = 5 }\n")
    assert load_settings(file).base_forecast_assets[-1] == "theta_forecasts"
    monkeypatch.setenv("CANDLECAST__MODELS__THETA__ENABLED", "false")
    settings = load_settings(file)
    assert settings.models["theta"].options == {"season": 5} and settings.enabled_models == {}


def test_every_file_inherits_from_the_packaged_sample_profile(written: Written) -> None:
    settings = load_settings(written('[profiles.mine.market]\nsource = "files"\npath = "bars/*.csv"\n'), "mine")
    sample = load_settings(Path(__file__).resolve().parents[2] / "candlecast.toml", "sample")
    assert settings.tokenizer == sample.tokenizer
    assert settings.predictor == sample.predictor
    assert settings.market.end is None, "the end of the sample's bars does not apply to another source"


def test_the_environment_overrides_one_key_and_leaves_its_siblings(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written("[profiles.sample.forecasts]\nevery = 3\nsample_count = 40\n")
    monkeypatch.setenv("CANDLECAST__FORECASTS__EVERY", "7")
    monkeypatch.setenv("CANDLECAST__WINDOWS__TEST", '["2011-02-01", "2012-01-01"]')
    settings = load_settings(file)
    assert (settings.forecasts.every, settings.forecasts.sample_count) == (7, 40)
    assert settings.windows.test == (date(2011, 2, 1), date(2012, 1, 1))


def test_validating_the_json_of_settings_ignores_the_environment(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written("[profiles.sample.backtest]\ntopk = 4\n")
    monkeypatch.setenv("CANDLECAST__BACKTEST__N_DROP", "4")
    settings = load_settings(file)
    data = settings.model_dump_json()
    monkeypatch.setenv("CANDLECAST__BACKTEST__TOPK", "3")
    monkeypatch.setenv("CANDLECAST__SEED", "9")
    assert Settings.model_validate_json(data) == settings
    assert settings.backtest.n_drop == 4


@pytest.mark.parametrize(
    ("variable", "value"), [("CANDLECAST__WINDOWS__TRAIN", "2000-01-01"), ("CANDLECAST__MARKET", "sample")]
)
def test_an_environment_variable_that_cannot_be_parsed_is_an_error(
    written: Written, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=r"environment variable|must be a table|market"):
        load_settings(written(""))


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("[profiles.sample.compute]\nnodes = 2\n", ["compute", "nodes = 2", "rendezvous"]),
        ("[profiles.sample.chronos2]\nd_model = 16\nnum_heads = 3\n", ["chronos2", "16", "3 heads"]),
        ('[profiles.sample]\nhome = "elsewhere"\n', ["home", "--home", "CANDLECAST_HOME"]),
        ("[profiles.sample]\nmarket = 5\n", ["market", "5"]),
        ('profile = ["sample"]\n', ["profile", "name of a profile"]),
        ("[profiles.sample.windows]\nlookbak_window = 90\n", ["windows.lookbak_window", "lookback_window"]),
        ('[profiles.sample.windows]\nlookback_window = "many"\n', ["windows.lookback_window", "'many'"]),
        ("[profiles.sample.forecasts]\ntop_p = 1.5\n", ["forecasts.top_p", "1.5", "1"]),
        ('[profiles.sample.market]\nsource = "stooq"\n', ["market.source", "'stooq'", "files"]),
        ('[profiles.sample.market]\ncalendar = "NYC"\n', ["market.calendar", "XNYS"]),
        ('[profiles.sample.market]\nsource = "files"\n', ["path"]),
        ("[profiles.sample.windows]\ntrain = [2001-01-01, 2010-06-01]\n", ["validation", "2010-06-01"]),
        ("[profiles.sample.windows]\ntest = [2012-01-01, 2011-01-01]\n", ["test", "2011-01-01"]),
        ("[profiles.sample.backtest]\ntopk = 2\nn_drop = 3\n", ["n_drop", "topk"]),
        ("[profiles.sample.forecasts]\nsample_count = 10\n", ["sample_count", "30"]),
        ("[profiles.sample.forecasts]\nlevels = [0.1, 0.9]\n", ["forecasts.levels", "0.5"]),
        ("[profiles.sample.nonsense]\na = 1\n", ["nonsense", "market"]),
        ("[sample]\na = 1\n", ["sample", "[profiles.NAME]"]),
        ("profile = ", ["TOML"]),
        (
            "[profiles.sample.windows]\nlookback_window = 20\npredict_window = 64\nmax_context = 64\n",
            ["predict_window 64 must be below max_context 64"],
        ),
        (
            "[profiles.sample.windows]\nlookback_window = 77\nmax_context = 70\n",
            ["lookback_window 77", "max_context 70"],
        ),
        ("[profiles.sample.windows]\nmax_context = 4097\n", ["windows.max_context = 4097", "4096"]),
        ('[profiles.sample.tokenizer]\nbase = "none"\nadapt = "lora"\n', ["tokenizer", 'adapt = "lora"', "a base"]),
        (
            '[profiles.sample.predictor]\nbase = "none"\nadapt = "last_layers"\n',
            ["predictor", 'adapt = "last_layers"', "a base"],
        ),
        ('[profiles.sample.chronos2]\nbase = "none"\nmode = "lora"\n', ["chronos2", 'mode = "lora"', "a base"]),
        ('[profiles.sample.market]\nsymbols = "AAPL"\n', ["market.symbols = 'AAPL'", "a list", "'all'"]),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_what_is_allowed(
    written: Written, text: str, facts: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(written(text))
    for fact in facts:
        assert fact in str(refused.value)


def test_a_settings_file_that_cannot_be_read_is_named(written: Written) -> None:
    with pytest.raises(SettingsError, match=r"/proc/self/mem cannot be read"):
        load_settings("/proc/self/mem")


def test_a_byte_order_mark_is_ignored(written: Written) -> None:
    assert load_settings(written("\ufeffprofile = 'sample'\n")).profile == "sample"


def test_an_unknown_profile_is_refused_with_the_available_ones(written: Written) -> None:
    with pytest.raises(SettingsError, match=r"mine.*sample"):
        load_settings(written("[profiles.mine]\n"), "yours")


@pytest.mark.parametrize("profile", ["sample", "pretrained"])
def test_the_packaged_profiles_load(profile: str) -> None:
    assert load_settings(Path(__file__).resolve().parents[2] / "candlecast.toml", profile).profile == profile


def test_the_longest_context_is_the_number_of_positions_of_the_model() -> None:
    from kronos.inference.engine import MAX_POSITIONS

    with pytest.raises(ValueError, match="max_context"):
        WindowSettings(max_context=MAX_POSITIONS + 1)
    assert WindowSettings(max_context=MAX_POSITIONS).max_context == MAX_POSITIONS


def test_an_unknown_section_in_the_environment_is_refused(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLECAST__FORECAST__EVERY", "7")
    with pytest.raises(SettingsError, match="forecasts"):
        load_settings(written(""))


@pytest.mark.parametrize("variable", ["CANDLECAST__SEED__X", "CANDLECAST__SEED__", "CANDLECAST__WAREHOUSE__FILE"])
def test_a_key_below_a_single_value_is_refused(
    written: Written, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError, match=rf"{variable}: (seed|warehouse)"):
        load_settings(written(""))


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        load_settings(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ('timezone = "New York"', r"market\.timezone = 'New York': .*America/New_York"),
        ('timezone = "Mars"', r"market\.timezone = 'Mars': .*IANA"),
        ('frequency = "25h"', r"market\.frequency = '25h': .*1d"),
        ('frequency = "1441min"', r"market\.frequency = '1441min': .*1d"),
    ],
)
def test_an_impossible_time_zone_or_frequency_is_refused(written: Written, setting: str, allowed: str) -> None:
    with pytest.raises(SettingsError, match=allowed):
        load_settings(written(f"[profiles.sample.market]\n{setting}\n"))


@pytest.mark.parametrize("setting", ['timezone = "Asia/Hong_Kong"', 'timezone = "UTC"', 'frequency = "24h"'])
def test_valid_time_zones_and_frequencies_are_accepted(written: Written, setting: str) -> None:
    load_settings(written(f"[profiles.sample.market]\n{setting}\n"))
