"""The settings: one frozen pydantic model per section of the settings file, with the range and meaning of every key.

A value outside its range is an error when the settings are loaded (`resources.profiles`), before any work. The
settings reference of the documentation is generated from the descriptions here.
"""

from __future__ import annotations

import difflib
from datetime import date
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from resources.licences import LicenceRule, refusal
from resources.quantile_levels import SETTING, LevelRule
from resources.settings_calibration import CalibrationSettings as CalibrationSettings
from resources.settings_models import (
    BUILT_IN_ASSETS,
    BUILT_IN_MODELS,
    CALIBRATED_ASSET,
    COMBINED_ASSET,
    forecast_asset,
    require_free_names,
)
from resources.settings_models import ModelSettings as ModelSettings
from resources.settings_risk import RiskSettings as RiskSettings
from resources.settings_section import Fraction
from resources.settings_section import Section as Section
from resources.settings_training import CALENDAR_COVARIATES as CALENDAR_COVARIATES
from resources.settings_training import Chronos2Settings as Chronos2Settings
from resources.settings_training import FitSettings as FitSettings
from resources.settings_training import PredictorSettings as PredictorSettings
from resources.settings_training import TokenizerSettings as TokenizerSettings
from resources.settings_training import VolatilitySettings as VolatilitySettings
from resources.settings_windows import DateRange as DateRange
from resources.settings_windows import FillRule as FillRule
from resources.settings_windows import WindowSettings as WindowSettings
from resources.vintages import BASES, has_vintages, is_template

ENV_PREFIX = "CANDLECAST__"

SourceName = Literal["sample", "files", "yahoo", "akshare", "ccxt", "qlib"]


class MarketSettings(Section):
    """Where bars come from, and for which symbols, sessions and frequency."""

    source: SourceName = Field("sample", description="Where bars come from.")
    path: str | None = Field(
        None,
        description="files: a glob of CSV or Parquet files; qlib: the folder of a bundle. Absolute, or relative to the "
        "settings file.",
    )
    calendar: str = Field(
        "XNYS",
        description="Exchange calendar that defines sessions, time zone and bar timestamps.",
        json_schema_extra={"range": 'an exchange_calendars name, or "24/7"'},
    )
    frequency: str = Field(
        "1d",
        pattern=r"^(1d|[1-9]\d*(min|h))$",
        description="Length of a bar.",
        json_schema_extra={"range": '"1d", or minutes or hours up to one day such as "5min", "1h"'},
    )
    symbols: tuple[str, ...] | Literal["all"] = Field(
        "all", description='Symbols to ingest and forecast; "all": every symbol that the source has.'
    )
    start: date = Field(date(2000, 3, 1), description="First session to ingest.")
    end: date | None = Field(None, description="Last session to ingest; unset: up to now.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Column names of your files, as standard name = name in the file; unset columns are recognised "
        'by their usual names, and "" leaves a column out.',
    )
    header: tuple[str, ...] | None = Field(
        None, min_length=5, description="files: column names, in order, of text files without a header line."
    )
    symbol_from: str | None = Field(
        None,
        description="files: where the symbol is, in files without a symbol column; unset: the file name without "
        "frequency, dates and similar decorations.",
        json_schema_extra={"range": '"stem" (the file name), "folder", or a pattern such as "{symbol}-1h-{month}"'},
    )
    series: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description='Series to read where a symbol has several, such as ["EQ"]; unset: all, and an error where two '
        "have a bar at the same time.",
    )
    stamp: Literal["start", "end"] | None = Field(
        None,
        description="Whether an intraday timestamp is the start or the end of its bar; unset: the start, and an error "
        "where the timestamps end their bars.",
    )
    adjusted: Literal["none", "splits", "splits and dividends"] | None = Field(
        None,
        description="files: for what the prices are adjusted. Unset: inferred from split and factor columns, and an "
        "error where the prices of split days show none.",
    )
    scale: dict[Literal["price", "volume", "amount"], Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Factors from the units of the files, e.g. volume = 100 for lots, amount = 1000 for thousands, "
        "price = 1e-4 for prices in ten-thousandths.",
        json_schema_extra={"range": "price, volume, amount; > 0"},
    )
    resample: bool = Field(
        False,
        description="files: aggregate rows of a finer frequency into bars of market.frequency, within the trading "
        "hours of each session; a bar that lacks some of them is flagged incomplete. Off: such files are refused.",
    )
    timezone: str | None = Field(
        None,
        description="Time zone of timestamps that carry no offset; unset: the exchange's.",
        json_schema_extra={"range": 'an IANA name such as "America/New_York"'},
    )
    date_order: Literal["ymd", "dmy", "mdy"] | None = Field(
        None, description="Order of day, month and year in dates such as 03/04/2012; unset: inferred per file."
    )
    max_rejected: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest share of a file's rows that may be rejected. Beyond it a check of `bars` fails, nothing "
        "downstream is made, and the exit status is 1. The ranges of a network source count together.",
    )
    drop: str | None = Field(
        None,
        description="Drop folder: new files in it are ingested, then moved to its subfolder done/ or refused/.",
    )
    members: str | None = Field(
        None,
        description="CSV of symbol, start, end: the dates on which each symbol belongs to the universe; end may be "
        "empty.",
    )
    exchange: str = Field("binance", description="ccxt: id of the exchange.")

    @field_validator("calendar")
    @classmethod
    def _known_calendar(cls, name: str) -> str:
        from resources.session_dates import is_calendar

        if is_calendar(name):
            return name
        raise ValueError('use an exchange_calendars name such as "XNYS" or "XHKG", or "24/7"')

    @field_validator("series", mode="before")
    @classmethod
    def _one_series(cls, series: object) -> object:
        return (series,) if isinstance(series, str) else series

    @field_validator("symbol_from")
    @classmethod
    def _names_the_symbol(cls, rule: str | None) -> str | None:
        if rule is None or rule in ("stem", "folder") or rule.count("{symbol}") == 1:
            return rule
        raise ValueError('use "stem", "folder", or a pattern with {symbol} such as "{symbol}-1h-{month}"')

    @field_validator("frequency")
    @classmethod
    def _at_most_one_day(cls, frequency: str) -> str:
        minutes = {"d": 1440, "h": 60, "n": 1}[frequency[-1]] * int(frequency.rstrip("dhmin"))
        if minutes > 1440:
            raise ValueError('at most one day: "1d", or minutes or hours such as "5min", "1h"')
        return frequency

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str | None) -> str | None:
        if name is None or name in available_timezones():
            return name
        near = difflib.get_close_matches(name.replace(" ", "_"), sorted(available_timezones()), n=1, cutoff=0.5)
        raise ValueError(f'use an IANA name such as "{near[0] if near else "America/New_York"}", or "UTC"')

    @model_validator(mode="after")
    def _complete(self) -> MarketSettings:
        if self.source == "files" and not self.path:
            raise ValueError('source = "files" needs path = "…", a glob of CSV or Parquet files')
        if self.resample and self.source != "files":
            raise ValueError(
                f'resample = true is for source = "files": "{self.source}" gives bars of market.frequency itself'
            )
        if self.source == "qlib" and not self.path:
            raise ValueError('source = "qlib" needs path = "…", the folder of a bundle')
        if self.source in ("yahoo", "akshare", "ccxt") and self.symbols == "all":
            raise ValueError(f'source = "{self.source}" cannot list all symbols: set symbols = ["…"]')
        if self.end and self.end < self.start:
            raise ValueError(f"end {self.end} is before start {self.start}")
        if self.symbols != "all" and not self.symbols:
            raise ValueError('symbols is empty: list some, or set "all"')
        return self


class ForecastSettings(Section):
    """Forecast origins, sampling and quantile levels."""

    every: int = Field(5, ge=1, description="Sessions between two forecast origins of the test range.")
    sample_count: int = Field(100, ge=30, description="Sample paths per symbol and origin.")
    temperature: float = Field(1.0, gt=0, le=10, description="Sampling temperature of Kronos.")
    top_k: int = Field(0, ge=0, description="Sample from the k most likely tokens; 0: from all.")
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Nucleus sampling: sample from the most likely tokens with this total probability. Below 1 the "
        "forecast distribution is too narrow.",
    )
    reading: Literal["exact", "empirical"] = Field(
        "exact",
        description='How quantiles are read off Kronos: "exact": the first step is the model\'s own distribution, and '
        'paths are stratified and weighted; "empirical": quantiles of independent paths, which 100 paths blur more.',
    )
    recentre: bool = Field(True, description="Chronos-2: shift the quantiles so that the median equals the last close.")
    levels: tuple[float, ...] = Field(
        tuple(round(0.05 * i, 2) for i in range(1, 20)),
        description="Quantile levels to store, increasing; 0.5, the median, is required. Two levels symmetric "
        "about it, such as 0.1 and 0.9, are the ends of a central interval: the coverage of the two widest is scored.",
        json_schema_extra={"range": "≥ 0.01, ≤ 0.99"},
    )
    coverage: Literal["warn", "block"] = Field(
        "warn",
        description="What happens where the coverage of recalibrated or combined forecasts is certainly outside of "
        '`coverage_bounds`: "warn" fails a check, "block" also stops signals, scores and report.',
    )
    coverage_bounds: dict[str, tuple[float, float]] = Field(
        {"50": (0.43, 0.57), "80": (0.75, 0.85), "90": (0.86, 0.94)},
        description="Lower and upper bound of the coverage of central intervals, by nominal coverage in per cent, over "
        "all origins and in each year. Only what is outside with its whole confidence interval fails. Intervals that "
        "`levels` does not have are not checked.",
        json_schema_extra={"range": '{"90" = [0.86, 0.94]}: keys > 0, < 100; bounds >= 0, <= 1, around the key'},
    )

    @field_validator("coverage_bounds")
    @classmethod
    def _around_nominal(cls, bounds: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for nominal, (low, high) in bounds.items():
            try:
                share = float(nominal) / 100
            except ValueError:
                share = 0.0
            if not 0 < share < 1:
                raise ValueError(f"{nominal!r} is no nominal coverage in per cent, such as 90")
            if not 0 <= low < share < high <= 1:
                raise ValueError(f"{nominal} = [{low:g}, {high:g}]: bounds are shares with low < {share:g} < high")
        return bounds

    @field_validator("levels", mode="before")
    @classmethod
    def _allowed(cls, levels: object) -> object:
        if fault := LevelRule(0.01, 0.99, "forecasts of bars", median=True).fault(levels, SETTING):
            raise ValueError(fault)
        return levels


class EvaluationSettings(Section):
    """Confidence intervals of scores and of skill, by a block bootstrap in time."""

    bootstrap_draws: int = Field(1000, ge=100, description="Bootstrap resamples.")
    block_origins: int | None = Field(
        None, ge=1, description="Origins per bootstrap block; unset: a fifth of the time that the origins span."
    )
    confidence: float = Field(0.9, gt=0.5, lt=1, description="Confidence level of the intervals.")


class BacktestSettings(Section):
    """The TopkDropout strategy and its trading costs."""

    topk: int = Field(2, ge=1, description="Symbols held.")
    n_drop: int = Field(1, ge=1, description="Symbols replaced per rebalancing at most; not above topk.")
    hold_thresh: int = Field(1, ge=1, description="Minimum holding period in sessions.")
    open_cost: Fraction = Field(0.0005, description="Cost of buying, as a fraction of the traded value.")
    close_cost: Fraction = Field(0.0015, description="Cost of selling, as a fraction of the traded value.")
    min_cost: float = Field(0.0, ge=0, description="Minimum cost per trade, in currency.")
    account: float = Field(1_000_000.0, gt=0, description="Initial cash, in currency.")
    signal_step: int | None = Field(
        None, ge=1, description="Horizon of the expected return that ranks symbols, in bars; unset: predict_window."
    )
    dropout: Literal["tradable", "qlib"] = Field(
        "tradable",
        description='What counts towards n_drop and topk: "tradable": orders that can be filled, so that a suspended '
        'holding does not stop the trading; "qlib": all orders, as in Qlib.',
    )
    price_limit: float | dict[str, float] | None = Field(
        None,
        description="Daily price limit as a fraction of the previous close; 0: none. A table gives it by symbol or "
        'pattern, the first match counts: {"688*" = 0.2, "30*" = 0.2, "*" = 0.1}. Unset: by market.calendar, 0.1 for '
        "XSHG, 0 for others. At the limit, buying or selling is refused.",
        json_schema_extra={"range": ">= 0, < 1"},
    )
    price_tick: float = Field(
        0.01, gt=0, description="Price step to which the exchange rounds price limits, in currency."
    )

    @field_validator("price_limit")
    @classmethod
    def _limits_below_1(cls, limit: float | dict[str, float] | None) -> float | dict[str, float] | None:
        for value in limit.values() if isinstance(limit, dict) else [limit or 0.0]:
            if not 0 <= value < 1:
                raise ValueError(f"a price limit is a fraction >= 0 and < 1, such as 0.1 for 10 %; not {value:g}")
        return limit

    @model_validator(mode="after")
    def _drops_at_most_topk(self) -> BacktestSettings:
        if self.n_drop > self.topk:
            raise ValueError(f"n_drop {self.n_drop} exceeds topk {self.topk}")
        return self


class PromotionSettings(Section):
    """Champion and challenger: when a new checkpoint replaces the one in use."""

    rule: Literal["not_worse", "better", "always"] = Field(
        "not_worse",
        description='By CRPS on validation origins: "not_worse": unless the challenger is significantly worse; '
        '"better": only if it is significantly better; "always": without a comparison.',
    )
    origins: int = Field(24, ge=6, description="Validation origins that both checkpoints forecast.")
    paths: int = Field(50, ge=30, description="Sample paths per origin of that comparison.")
    expires_days: int | None = Field(
        None, ge=1, description="Days after its cutoff until which a champion may be used; unset: it never expires."
    )


class DriftSettings(Section):
    """Input drift: when forecast inputs differ from the inputs of validation."""

    action: Literal["warn", "block", "off"] = Field(
        "warn",
        description='On drift: "warn" fails a check, "block" also leaves the origin out; "off": not measured.',
    )
    quantile: float = Field(
        0.99, gt=0.5, lt=1, description="Drift is a distance above this quantile of the distances in validation."
    )


class EmbeddingSettings(Section):
    """The asset `embeddings`: hidden states of the models as features."""

    models: tuple[Literal["kronos", "chronos2"], ...] = Field(
        ("kronos", "chronos2"), min_length=1, description="Models whose hidden states are stored."
    )
    pooling: Literal["last", "mean"] = Field(
        "last",
        description='How the states of a window become one vector: "last": the state that the next bar is predicted '
        'from; "mean": the mean over the window.',
    )
    daily: bool = Field(False, description="Whether the daily run makes the asset, after the forecasts.")


class ComputeSettings(Section):
    """Device, precision and processes."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description='Device of the models; "auto": CUDA if available, else MPS, else CPU.',
        json_schema_extra={"range": '"auto", "cpu", "mps", "cuda" or "cuda:N"'},
    )
    licences: LicenceRule = Field(
        "any",
        description='Licences of models: "any", or "commercial": a model is refused whose licence forbids commercial '
        "use or is not known; `licence` in its section states it.",
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Floating-point type of the models.")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; unset: one per core.")
    workers: int | None = Field(
        None,
        ge=1,
        description="Processes that forecast with a model of one thread, such as the compact Kronos; unset: one per "
        "core, one on a GPU. The second one starts with the command and has the compact networks, others where a "
        "forecast takes longer than their start, and there is memory for them. 1: all is forecast in one process.",
    )
    processes: int = Field(1, ge=1, description="Training processes on this machine, started with torchrun.")
    rendezvous: str | None = Field(
        None, description="host:port of torchrun's rendezvous for training on several machines; unset: one machine."
    )
    nodes: int = Field(1, ge=1, description="Machines of the rendezvous.")
    save_every: int = Field(
        200, ge=1, description="Steps between two saved training states, from which an interrupted run resumes."
    )

    @model_validator(mode="after")
    def _has_rendezvous(self) -> ComputeSettings:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(f'nodes = {self.nodes} needs rendezvous = "host:port"')
        return self


class ExampleSettings(Section):
    """The worked examples (asset group `examples`), which are simulated series."""

    model: str = Field(
        "packaged",
        description='Model of the examples; "packaged": compact weights that were fitted on simulated series with '
        "covariates.",
        json_schema_extra={
            "range": '"packaged", a folder of Chronos-2 weights, a hub name such as "amazon/chronos-2", or what '
            "`candlecast predict --model` allows"
        },
    )


class Settings(BaseModel):
    """All settings of one profile, as data: the environment has no effect, so that a child process reads what its
    parent wrote. Environment overrides are applied once, by `load_settings`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    profile: str = Field("sample", description="Name of the profile.")
    root: Path = Field(Path(), description="Folder of the settings file.")
    home: Path = Field(Path("data"), description="Home folder: lake, warehouse, checkpoints, reports.")
    warehouse: SecretStr | None = Field(
        None,
        description="Database file, or a URI that DuckDB attaches (md:…, ducklake:…); unset: warehouse.duckdb in the "
        "home folder. A URI with a password belongs in the file of `secrets` or in CANDLECAST__WAREHOUSE.",
    )
    secrets: str | None = Field(
        None,
        description="TOML file of the keys that are secret (warehouse), kept apart from the settings; absolute, or "
        "relative to the settings file. Its values replace those of the profile.",
    )
    seed: int = Field(7, ge=0, lt=2**31, description="Seed of training, sampling and bootstrap.")
    market: MarketSettings = MarketSettings()
    windows: WindowSettings = WindowSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    predictor: PredictorSettings = PredictorSettings()
    chronos2: Chronos2Settings = Chronos2Settings()
    volatility: VolatilitySettings = VolatilitySettings()
    forecasts: ForecastSettings = ForecastSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    risk: RiskSettings = RiskSettings()
    backtest: BacktestSettings = BacktestSettings()
    compute: ComputeSettings = ComputeSettings()
    promotion: PromotionSettings = PromotionSettings()
    drift: DriftSettings = DriftSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    examples: ExampleSettings = ExampleSettings()
    models: dict[str, ModelSettings] = Field(
        default_factory=dict, description="Forecasters beside the built-in ones, by name."
    )

    @property
    def enabled_models(self) -> dict[str, ModelSettings]:
        """The enabled models of the section `models`, by name."""
        return {name: model for name, model in self.models.items() if model.enabled}

    @property
    def forecast_assets(self) -> tuple[str, ...]:
        """The names of all assets of forecasts: the built-in ones, those of further models, the derived ones."""
        derived = {CALIBRATED_ASSET: self.calibration.enabled, COMBINED_ASSET: self.combined}
        return (*self.base_forecast_assets, *(asset for asset, exists in derived.items() if exists))

    @property
    def base_forecast_assets(self) -> tuple[str, ...]:
        """The assets of forecasts that are derived from no others."""
        return (*BUILT_IN_ASSETS, *map(forecast_asset, self.enabled_models))

    @property
    def combined(self) -> bool:
        """Whether there are combinations of the models."""
        return self.calibration.enabled and self.calibration.combined

    @property
    def warm_up(self) -> bool:
        """Whether the origins of windows.validation are forecast."""
        return self.calibration.enabled and self.calibration.warm_up and not has_vintages(self.windows)

    @field_validator("models")
    @classmethod
    def _free_names(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        require_free_names(models)
        return models

    @model_validator(mode="after")
    def _licences_are_allowed(self) -> Settings:
        stated = {f"models.{name}": model.licence for name, model in self.enabled_models.items()}
        stated |= {name: getattr(self, name).licence for name in BASES}
        for section, licence in stated.items():
            if licence and (reason := refusal(licence, self.compute.licences, f"{section}.licence")):
                raise ValueError(reason)
        return self

    @model_validator(mode="after")
    def _anchored_models_exist(self) -> Settings:
        for name in self.calibration.anchored:
            if name not in BUILT_IN_MODELS and name not in self.models:
                raise ValueError(f"calibration.anchored: no model is called {name!r}")
        return self

    @model_validator(mode="after")
    def _signal_within_horizon(self) -> Settings:
        step, horizon = self.backtest.signal_step, self.windows.predict_window
        if step and step > horizon:
            raise ValueError(f"backtest.signal_step {step} exceeds windows.predict_window {horizon}")
        return self

    @model_validator(mode="after")
    def _risk_within_horizon(self) -> Settings:
        first, horizon = self.risk.steps[0], self.windows.predict_window
        if first > horizon:
            raise ValueError(f"risk.steps begins with {first}, beyond windows.predict_window {horizon}")
        return self

    @model_validator(mode="after")
    def _templates_have_vintages(self) -> Settings:
        named = {f"{name}.base": getattr(self, name).base for name in BASES}
        for name, model in self.models.items():
            named |= {f"models.{name}.options.{key}": value for key, value in model.options.items()}
        found = [key for key, value in named.items() if is_template(value)]
        if found and not has_vintages(self.windows):
            raise ValueError(
                f'{found[0]} = "{named[found[0]]}" differs by vintage: set windows.vintage to "year", "quarter" or '
                '"month", or name one set of weights'
            )
        return self

    @model_validator(mode="after")
    def _test_before_market_end(self) -> Settings:
        if self.market.end and self.windows.test[0] > self.market.end:
            raise ValueError(f"windows.test starts on {self.windows.test[0]}, after market.end {self.market.end}")
        return self


class OverriddenSettings(BaseSettings, Settings):
    """Settings whose single keys `CANDLECAST__SECTION__KEY` overrides."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

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
