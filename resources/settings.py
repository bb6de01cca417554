"""The settings: one typed object, read from one TOML file and the environment.

A profile inherits from `sample` whatever it does not say. `CANDLECAST__SECTION__KEY` overrides one key. A
value that cannot be right is refused here, at load, with its key and what is allowed. Not here: anything
that reads data.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as EnvironmentSettingsError

from resources.errors import SettingsError

SETTINGS_FILE = "candlecast.toml"
ENV_FILE, ENV_PROFILE, ENV_HOME = "CANDLECAST_SETTINGS", "CANDLECAST_PROFILE", "CANDLECAST_HOME"
ENV_PREFIX = "CANDLECAST__"

SourceName = Literal["sample", "files", "yahoo", "akshare", "ccxt", "qlib"]
Span = tuple[date, date]
Rate = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of the settings: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class MarketSettings(Section):
    """Where bars come from, and which."""

    source: SourceName = "sample"
    path: str | None = Field(None, description="files: a glob, absolute or relative to the settings file")
    calendar: str = Field("XNYS", description='an exchange_calendars name, or "24/7"')
    frequency: str = Field("1d", pattern=r"^(1d|[1-9]\d*(min|h))$")
    symbols: tuple[str, ...] | Literal["all"] = "all"
    start: date = date(2000, 3, 1)
    end: date | None = Field(None, description="last session wanted; none: until now")
    columns: dict[str, str] = Field(default_factory=dict, description="our name = the file's name")
    timezone: str | None = Field(None, description="of stamps without one; none: the exchange's")
    date_order: Literal["ymd", "dmy", "mdy"] | None = Field(
        None, description="of dates such as 03/04/2012; none: told from the values and the calendar"
    )
    drop: str | None = Field(
        None, description="a folder: new files in it are taken in, and moved to its done/ or refused/"
    )
    members: str | None = Field(
        None, description="a CSV of symbol, start, end: when each symbol belongs to the universe; end may be empty"
    )
    exchange: str = Field("binance", description="ccxt: the exchange's id")

    @field_validator("calendar")
    @classmethod
    def _known_calendar(cls, name: str) -> str:
        import exchange_calendars

        if name == "24/7" or name in exchange_calendars.get_calendar_names(include_aliases=True):
            return name
        raise ValueError('an exchange_calendars name such as "XNYS" or "XHKG", or "24/7"')

    @field_validator("frequency")
    @classmethod
    def _within_a_day(cls, frequency: str) -> str:
        minutes = {"d": 1440, "h": 60, "n": 1}[frequency[-1]] * int(frequency.rstrip("dhmin"))
        if minutes > 1440:
            raise ValueError('at most a day: "1d", or minutes or hours such as "5min", "1h"')
        return frequency

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str | None) -> str | None:
        if name is None or name in available_timezones():
            return name
        near = difflib.get_close_matches(name.replace(" ", "_"), sorted(available_timezones()), n=1, cutoff=0.5)
        raise ValueError(f'an IANA name such as "{near[0] if near else "America/New_York"}", or "UTC"')

    @model_validator(mode="after")
    def _complete(self) -> MarketSettings:
        if self.source == "files" and not self.path:
            raise ValueError('source = "files" needs path = "…", a glob of CSV or Parquet files')
        if self.source == "qlib" and not self.path:
            raise ValueError('source = "qlib" needs path = "…", the folder of a bundle')
        if self.source in ("yahoo", "akshare", "ccxt") and self.symbols == "all":
            raise ValueError(f'source = "{self.source}" cannot be asked for all symbols: symbols = ["…"]')
        if self.end and self.end < self.start:
            raise ValueError(f"end {self.end} is before start {self.start}")
        if self.symbols != "all" and not self.symbols:
            raise ValueError('symbols is empty: name some, or say "all"')
        return self


class WindowSettings(Section):
    """Lookback, horizon and the three ranges of time. A range's two dates are both inside it."""

    lookback_window: int = Field(90, ge=2, description="bars a model sees")
    predict_window: int = Field(10, ge=1, description="bars it forecasts: the horizon")
    max_context: int = Field(512, ge=2, le=4096, description="bars that Kronos holds in view; it knows 4096 positions")
    clip: float = Field(5.0, gt=0, description="in standard deviations of the lookback")
    train: Span = (date(2000, 3, 1), date(2009, 12, 31))
    validation: Span = (date(2010, 1, 1), date(2010, 12, 31))
    test: Span = (date(2011, 1, 1), date(2013, 3, 1))
    embargo: int = Field(5, ge=0, description="sessions left out between two ranges, beyond the purge")
    short_history: Literal["refuse", "exclude"] = Field(
        "refuse",
        description="a symbol with fewer bars than lookback + horizon: stop, or leave it out and say so",
    )

    @model_validator(mode="after")
    def _in_order(self) -> WindowSettings:
        spans = {"train": self.train, "validation": self.validation, "test": self.test}
        for name, (first, last) in spans.items():
            if last < first:
                raise ValueError(f"{name} ends on {last}, before it starts on {first}")
        if self.validation[0] <= self.train[1]:
            raise ValueError(
                f"validation starts on {self.validation[0]}: it must start after train ends, {self.train[1]}"
            )
        if self.test[0] <= self.validation[1]:
            raise ValueError(
                f"test starts on {self.test[0]}: it must start after validation ends, {self.validation[1]}"
            )
        if self.lookback_window > self.max_context:
            raise ValueError(f"lookback_window {self.lookback_window} exceeds max_context {self.max_context}")
        if self.predict_window >= self.max_context:
            raise ValueError(
                f"predict_window {self.predict_window} must be below max_context {self.max_context}: no history would "
                "be left in view"
            )
        return self

    @property
    def cutoff(self) -> date:
        """The last day whose bars may reach weights, by gradient or by selection."""
        return self.validation[1]


class FitSettings(Section):
    """How one model is fitted."""

    base: str = Field("none", description='"none" (from scratch), "packaged", a folder, or a hub name')
    revision: str | None = None
    adapt: Literal["full", "last_layers", "lora"] = Field("full", description="which weights of a base may move")
    last_layers: int = Field(1, ge=1, description="last_layers: how many blocks, with the heads after them")
    lora_rank: int = Field(8, ge=1)
    epochs: int = Field(4, ge=0, description="0: the base as it is")
    steps_per_epoch: int | None = Field(None, ge=1, description="none: every window once")
    batch_size: int = Field(64, ge=1, description="windows a step and process")
    micro_batch: int | None = Field(None, ge=1, description="windows at once, gradients accumulated; none: the batch")
    learning_rate: Rate = 1e-3
    weight_decay: Fraction = 0.01
    warmup: Fraction = Field(0.05, description="of all steps; then a cosine to zero")
    max_grad_norm: float = Field(1.0, gt=0)
    patience: int | None = Field(3, ge=1, description="epochs without a better validation loss; none: never stop")
    validation_windows: int = Field(1024, ge=1, description="at most, spread evenly over the validation range")
    blind: Fraction = Field(0.0, description="share of windows whose volume and amount are zeroed; published: 0.05")
    mirror: Fraction = Field(0.0, description="share of windows whose prices are turned over; 0.5: no drift is learnt")

    @model_validator(mode="after")
    def _adapts_a_base(self) -> FitSettings:
        if self.base == "none" and self.adapt != "full":
            raise ValueError(
                f'adapt = "{self.adapt}" keeps most weights of a base as they are, and base = "none" has random ones: '
                'name a base, or say adapt = "full"'
            )
        return self


class TokenizerSettings(FitSettings):
    """The Kronos tokenizer: shape (when built from scratch) and recipe."""

    d_model: int = Field(64, ge=8)
    n_heads: int = Field(4, ge=1)
    ff_dim: int = Field(128, ge=8)
    n_enc_layers: int = Field(3, ge=1)
    n_dec_layers: int = Field(3, ge=1)
    s1_bits: int = Field(7, ge=1, le=12)
    s2_bits: int = Field(7, ge=1, le=12)
    beta: float = 0.05
    gamma0: float = 1.0
    gamma: float = 1.1
    zeta: float = 0.05
    group_size: int = Field(7, ge=1)
    min_codebook_use: Fraction = Field(0.05, description="blocks below: share of each half's codes that occur")
    max_reconstruction: float = Field(0.5, gt=0, description="blocks above: RMSE of a price, lookback deviations")

    @model_validator(mode="after")
    def _divides(self) -> TokenizerSettings:
        if self.d_model % self.n_heads or (self.d_model // self.n_heads) % 2:
            raise ValueError(f"d_model {self.d_model} must split into {self.n_heads} heads of even width")
        if (self.s1_bits + self.s2_bits) % self.group_size:
            raise ValueError(
                f"group_size {self.group_size} must divide s1_bits + s2_bits = {self.s1_bits + self.s2_bits}"
            )
        return self


class PredictorSettings(FitSettings):
    """The Kronos predictor: shape (when built from scratch) and recipe."""

    d_model: int = Field(96, ge=8)
    n_heads: int = Field(4, ge=1)
    ff_dim: int = Field(192, ge=8)
    n_layers: int = Field(3, ge=1)
    ffn_dropout_p: Fraction = 0.1
    attn_dropout_p: Fraction = 0.0
    resid_dropout_p: Fraction = 0.1
    token_dropout_p: Fraction = 0.0
    select_origins: int = Field(8, ge=0, description="validation origins that choose weights by CRPS; 0: by loss")
    select_paths: int = Field(50, ge=30)
    select_candidates: int = Field(3, ge=1, description="evaluations tried beside the base, lowest loss first")
    s1_sampling: Literal["teacher", "sampled"] = Field("teacher", description="sampled: as the authors train")

    @model_validator(mode="after")
    def _divides(self) -> PredictorSettings:
        if self.d_model % self.n_heads or (self.d_model // self.n_heads) % 2:
            raise ValueError(f"d_model {self.d_model} must split into {self.n_heads} heads of even width")
        if self.d_model % 8:
            raise ValueError(f"d_model {self.d_model} must be a multiple of 8, for 4 cross-attention heads")
        return self


class Chronos2Settings(Section):
    """Chronos-2: the published model, or a compact one of its kind."""

    base: str = Field("none", description='"none" (compact, from scratch), "packaged", a folder, or a hub name')
    revision: str | None = None
    mode: Literal["zero-shot", "full", "lora"] = "full"
    steps: int = Field(600, ge=0)
    batch_size: int = Field(64, ge=1)
    learning_rate: Rate = 2e-3
    context_length: int = Field(64, ge=16)
    d_model: int = Field(64, ge=8)
    d_ff: int = Field(128, ge=8)
    num_layers: int = Field(2, ge=1)
    num_heads: int = Field(4, ge=1)
    patch_size: int = Field(8, ge=1)
    lora_rank: int = Field(8, ge=1)
    evaluate_every: int = Field(100, ge=1, description="steps between two looks at the validation range")

    @model_validator(mode="after")
    def _divides(self) -> Chronos2Settings:
        if self.d_model % self.num_heads or (self.d_model // self.num_heads) % 2:
            raise ValueError(f"d_model {self.d_model} must split into {self.num_heads} heads of even width")
        if self.base == "none" and self.mode == "lora":
            raise ValueError(
                'mode = "lora" adapts a base, and base = "none" has none: name a base, or say mode = "full"'
            )
        return self


class ForecastSettings(Section):
    """Which origins are forecast, and how."""

    every: int = Field(5, ge=1, description="sessions between two origins of the test range")
    sample_count: int = Field(100, ge=30)
    temperature: float = Field(1.0, gt=0, le=10)
    top_k: int = Field(0, ge=0, description="0: no limit")
    top_p: float = Field(1.0, gt=0, le=1, description="scores want 1: less makes every path too narrow")
    recentre: bool = Field(True, description="Chronos-2: put the median on the last close; see chronos2_quantiles.py")
    levels: tuple[Annotated[float, Field(ge=0.01, le=0.99)], ...] = tuple(round(0.05 * i, 2) for i in range(1, 20))

    @field_validator("levels")
    @classmethod
    def _rising(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if list(levels) != sorted(set(levels)):
            raise ValueError("rising levels, each once")
        missing = [level for level in (0.05, 0.1, 0.5, 0.9, 0.95) if level not in levels]
        if missing:
            raise ValueError(f"the median and the 80 % and 90 % bands need the levels {missing} as well")
        return levels


class EvaluationSettings(Section):
    """How scores become intervals."""

    bootstrap_draws: int = Field(1000, ge=100)
    block_origins: int | None = Field(None, ge=1, description="none: enough origins to cover the horizon")
    confidence: float = Field(0.9, gt=0.5, lt=1)


class BacktestSettings(Section):
    """TopkDropout and its costs. Costs are fractions of the value traded."""

    topk: int = Field(2, ge=1)
    n_drop: int = Field(1, ge=1)
    hold_thresh: int = Field(1, ge=1, description="sessions a position is held at least")
    open_cost: Fraction = 0.0005
    close_cost: Fraction = 0.0015
    min_cost: float = Field(0.0, ge=0)
    account: float = Field(1_000_000.0, gt=0)
    signal_step: int | None = Field(None, ge=1, description="the horizon of the expected return; none: predict_window")

    @model_validator(mode="after")
    def _drops_what_it_holds(self) -> BacktestSettings:
        if self.n_drop > self.topk:
            raise ValueError(f"n_drop {self.n_drop} exceeds topk {self.topk}")
        return self


class PromotionSettings(Section):
    """When a new checkpoint takes over from the one in use."""

    rule: Literal["not_worse", "better", "always"] = Field(
        "not_worse", description="by CRPS on validation origins: not shown worse, shown better, or without looking"
    )
    origins: int = Field(24, ge=6, description="origins of the validation range that both forecast")
    paths: int = Field(50, ge=30)
    expires_days: int | None = Field(None, ge=1, description="days after its cutoff that a champion is good for")


class DriftSettings(Section):
    """When the input of a forecast no longer looks like what the weights learnt from."""

    action: Literal["warn", "block", "off"] = "warn"
    quantile: float = Field(0.99, gt=0.5, lt=1, description="of the distances in validation, beyond which it is drift")


class ComputeSettings(Section):
    """What the models run on."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int | None = Field(None, ge=1, description="none: one a core")
    processes: int = Field(1, ge=1, description="training processes on this machine, by torchrun")
    rendezvous: str | None = Field(None, description="host:port that several machines meet at; none: this one alone")
    nodes: int = Field(1, ge=1, description="machines that meet there")
    save_every: int = Field(200, ge=1, description="steps between two states from which a killed run goes on")

    @model_validator(mode="after")
    def _machines_meet(self) -> ComputeSettings:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(f'nodes = {self.nodes} needs rendezvous = "host:port", where the machines meet')
        return self


class Settings(BaseSettings):
    """Everything a run depends on beside the data."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    profile: str = "sample"
    root: Path = Field(Path(), description="the folder of the settings file")
    home: Path = Field(Path("data"), description="where everything lives")
    warehouse: str | None = Field(
        None, description="a file, or a URI that DuckDB attaches (md:…, ducklake:…); none: warehouse.duckdb in the home"
    )
    seed: int = Field(7, ge=0, lt=2**31)
    market: MarketSettings = MarketSettings()
    windows: WindowSettings = WindowSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    predictor: PredictorSettings = PredictorSettings()
    chronos2: Chronos2Settings = Chronos2Settings()
    forecasts: ForecastSettings = ForecastSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    backtest: BacktestSettings = BacktestSettings()
    compute: ComputeSettings = ComputeSettings()
    promotion: PromotionSettings = PromotionSettings()
    drift: DriftSettings = DriftSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @model_validator(mode="after")
    def _signals_are_forecast(self) -> Settings:
        step, horizon = self.backtest.signal_step, self.windows.predict_window
        if step and step > horizon:
            raise ValueError(f"backtest.signal_step {step} exceeds windows.predict_window {horizon}")
        return self

    @model_validator(mode="after")
    def _chronos_sees_its_horizon(self) -> Settings:
        if self.market.end and self.windows.test[0] > self.market.end:
            raise ValueError(f"windows.test starts on {self.windows.test[0]}, after market.end {self.market.end}")
        return self


def load_settings(
    file: Path | str | None = None, profile: str | None = None, home: Path | str | None = None
) -> Settings:
    """The settings of one profile.

    `file`, `profile` and `home` win over `CANDLECAST_SETTINGS`, `CANDLECAST_PROFILE` and `CANDLECAST_HOME`; without
    either, the file is `candlecast.toml` in the working folder or one above it, the profile the one that it names, and
    the home `data/` beside it.

    Raises:
        SettingsError: naming the key, the value and what is allowed.
    """
    path = _settings_path(file)
    content = _read(path)
    name = profile or os.environ.get(ENV_PROFILE) or content.get("profile", "sample")
    values = _inherit(content.get("profiles", {}), name, path)
    _refuse_unknown_environment()
    where = home or os.environ.get(ENV_HOME) or path.parent / "data"
    own = sorted({"profile", "root", "home"} & set(values))
    if own:
        raise SettingsError(
            f"{path}, profile {name!r}: {own[0]} does not belong in a profile; the profile is named at the top or by "
            f"--profile, the home by --home or {ENV_HOME}"
        )
    try:
        return Settings(**{**values, "profile": name, "root": path.parent, "home": Path(where).expanduser().absolute()})
    except ValidationError as error:
        raise SettingsError(_in_words(error, path, name)) from None
    except EnvironmentSettingsError as error:
        raise SettingsError(
            f"an environment variable {ENV_PREFIX}… is not readable: {error}. Lists and tables are written as JSON: "
            f"""{ENV_PREFIX}WINDOWS__TRAIN='["2000-01-01", "2005-12-31"]'"""
        ) from None


def shipped(name: str) -> Path:
    """A file that comes with the project: in the repository's root, or, from a wheel (setup.py), beside this module."""
    here = Path(__file__).resolve().parent
    return here / name if (here / name).is_file() else here.parent / name


def _settings_path(file: Path | str | None) -> Path:
    named = file or os.environ.get(ENV_FILE)
    if named:
        path = Path(named).expanduser().absolute()
        if not path.is_file():
            raise SettingsError(f"settings file {path} does not exist")
        return path
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parent.parent):
        if (folder / SETTINGS_FILE).is_file():
            return folder / SETTINGS_FILE
    raise SettingsError(f"no {SETTINGS_FILE} in {here} or above it: name one with --settings or {ENV_FILE}")


def _read(path: Path) -> dict[str, Any]:
    try:
        # Some editors begin a file with a byte order mark, which TOML does not know.
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    unknown = set(content) - {"profile", "profiles"}
    if unknown:
        raise SettingsError(f"{path}: unknown key {sorted(unknown)[0]!r} at the top; allowed: profile, [profiles.NAME]")
    if not isinstance(content.get("profile", ""), str):
        raise SettingsError(f"{path}: profile = {content['profile']!r} must be the name of a profile")
    if not isinstance(content.get("profiles", {}), dict) or not all(
        isinstance(p, dict) for p in content.get("profiles", {}).values()
    ):
        raise SettingsError(f"{path}: profiles must be tables, [profiles.NAME]")
    return content


def _inherit(profiles: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    if name != "sample" and name not in profiles:
        known = ", ".join(sorted({"sample", *profiles}))
        raise SettingsError(f"{path}: no profile {name!r}; there are: {known}")
    base = _merge(_own_sample(path), profiles.get("sample", {}))
    if name == "sample":
        return base
    merged = _merge(base, profiles[name])
    if not isinstance(merged.get("market", {}), Mapping):
        raise SettingsError(f"{path}, profile {name!r}: market = {merged['market']!r} must be a table")
    if merged.get("market", {}).get("source") != base.get("market", {}).get("source"):
        # Where the sample's bars end says nothing of another source's.
        _drop_inherited_end(merged, profiles[name])
    return merged


def _own_sample(path: Path) -> Mapping[str, Any]:
    """The sample profile as it comes with the project: what every settings file's profiles start from."""
    own = shipped(SETTINGS_FILE)
    if own == path or not own.is_file():
        return {}
    sample: Mapping[str, Any] = _read(own).get("profiles", {}).get("sample", {})
    return sample


def _drop_inherited_end(merged: dict[str, Any], profile: Mapping[str, Any]) -> None:
    if "end" not in profile.get("market", {}):
        merged["market"] = {key: value for key, value in merged["market"].items() if key != "end"}


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _refuse_unknown_environment() -> None:
    for variable in os.environ:
        if not variable.startswith(ENV_PREFIX):
            continue
        section, *keys = variable.removeprefix(ENV_PREFIX).lower().split("__")
        if section not in Settings.model_fields or section in {"profile", "root", "home"}:
            allowed = ", ".join(sorted(set(Settings.model_fields) - {"profile", "root", "home"}))
            raise SettingsError(f"environment variable {variable}: no section {section!r}; allowed: {allowed}")
        if keys and not _is_section(section):
            raise SettingsError(
                f"environment variable {variable}: {section} is one value and has no keys; write "
                f"{ENV_PREFIX}{section.upper()}"
            )


def _in_words(error: ValidationError, path: Path, profile: str) -> str:
    lines = [f"{path}, profile {profile!r}:"]
    for problem in error.errors():
        # pydantic names the branch of a union like a key: "tuple[str, ...]".
        key = ".".join(str(part) for part in problem["loc"] if "[" not in str(part)) or "settings"
        given = (
            ""
            if problem["type"] in ("missing", "value_error") and isinstance(problem["input"], dict)
            else f" = {problem['input']!r}"
        )
        reason = problem["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")
        if problem["type"] == "extra_forbidden":
            reason = f"unknown key; allowed: {', '.join(_siblings(problem['loc']))}"
        lines.append(f"  {key}{given}: {reason}")
    return "\n".join(lines)


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    fields = Settings.model_fields
    if len(loc) < 2:
        return sorted(set(fields) - {"root", "home", "profile"})
    section = fields[str(loc[0])].annotation
    return sorted(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []


def _is_section(name: str) -> bool:
    kind = Settings.model_fields[name].annotation
    return isinstance(kind, type) and issubclass(kind, BaseModel)
