"""The target standardised_close: rows and outcomes in units of the volatility at the origin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline

from assets.forecasting.chronos2.input_settings import with_inputs_of
from assets.forecasting.chronos2.inputs import Chronos2Inputs
from assets.forecasting.chronos2.outputs import field_quantiles
from assets.forecasting.chronos2.standardised import ANCHORS, SIZE, mirrored_bars, origin_scale
from assets.forecasting.cross_section import MarketReturns
from assets.market.history import CLOSE, VOLUME
from assets.training.checkpoint_request import starting_weights
from assets.training.compact import NOTES
from assets.training.fit.base_weights import WEIGHTS
from resources.errors import CandlecastError
from resources.profiles import load_settings, packaged_file
from resources.settings import Chronos2Settings, Settings
from resources.settings_training import PACKAGED_INPUTS

PACKAGED = Chronos2Settings(base="packaged", **PACKAGED_INPUTS)
NAMES = ("range", "volume", "market_return")
STAMPS = np.arange("2009-01-01", "2009-03-12", dtype="datetime64[D]").astype("datetime64[s]")
ORIGIN = 60


def bars(seed: int = 0, volatility: float = 0.02) -> np.ndarray:
    """(70, 6) bars of a random walk."""
    rng = np.random.default_rng(seed)
    closes = np.log(40) + np.cumsum(rng.normal(0, volatility, len(STAMPS)))
    opens = np.r_[closes[0], closes[:-1]] + rng.normal(0, volatility / 4, len(STAMPS))
    high, low = np.maximum(opens, closes) + volatility / 5, np.minimum(opens, closes) - volatility / 3
    volume = rng.lognormal(12, 0.4, len(STAMPS))
    return np.column_stack([np.exp(np.stack([opens, high, low, closes], axis=1)), volume, volume * np.nan])


def inputs(past: tuple[str, ...] = NAMES) -> Chronos2Inputs:
    market = MarketReturns(STAMPS, np.random.default_rng(5).normal(0, 0.01, len(STAMPS)))
    chosen = Settings(chronos2=Chronos2Settings(targets=("standardised_close",), past_covariates=past))
    return Chronos2Inputs.of(chosen, lambda: market)


def context(values: np.ndarray) -> np.ndarray:
    return inputs().rows("A", STAMPS[:ORIGIN], values[:ORIGIN], STAMPS[ORIGIN:])[0]


def test_rows_have_mean_zero_and_one_size_whatever_the_volatility() -> None:
    calm, wild = context(bars(volatility=0.004)), context(bars(volatility=0.09))
    for rows in (calm, wild):
        np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-5)
        np.testing.assert_allclose(rows.std(axis=1), SIZE, rtol=1e-5)
    np.testing.assert_allclose(calm[0, ANCHORS:], wild[0, ANCHORS:], rtol=0.15, atol=0.05)


def test_prices_in_another_unit_have_the_same_rows() -> None:
    other = bars()
    other[:, : CLOSE + 1] *= 3.7
    np.testing.assert_allclose(context(other), context(bars()), atol=1e-4)


def test_a_training_window_holds_returns_in_units_of_the_scale_and_mirrored_ones_their_negatives() -> None:
    own = bars()
    plain, mirrored = (inputs().window_rows("A", STAMPS, own, ORIGIN, mirror) for mirror in (False, True))
    scale = origin_scale(own[:ORIGIN])
    steps = np.arange(1, len(STAMPS) - ORIGIN + 1)
    closes = own[ORIGIN - 1, CLOSE] * np.exp(plain[0, ORIGIN:] * scale * np.sqrt(steps))
    np.testing.assert_allclose(closes, own[ORIGIN:, CLOSE], rtol=1e-5)
    assert np.isnan(plain[1:, ORIGIN:]).all(), "covariates are not known over the horizon"
    signs = np.array([[-1], [-1], [1], [1]])  # standardised_close, market_return, range, volume
    np.testing.assert_allclose(mirrored[:, ANCHORS:], signs * plain[:, ANCHORS:], atol=1e-4)


def test_the_scale_ignores_direction_and_survives_bars_without_range_or_volume() -> None:
    own = bars()
    assert origin_scale(mirrored_bars(own)) == pytest.approx(origin_scale(own))
    flat = own.copy()
    flat[:, :CLOSE], flat[:, VOLUME] = own[:, CLOSE, None], np.nan
    assert 0.5 < origin_scale(flat) / origin_scale(own) < 2
    assert np.isfinite(context(flat)).all()
    constant = np.full_like(own, 9.0)
    assert np.isfinite(context(constant)).all() and origin_scale(constant) < 1e-5


def test_equal_quantiles_are_a_random_walk_with_the_scale_at_the_origin() -> None:
    raw = np.tile([-1.2, 0.0, 1.2], (2, 1, 4, 1))
    last, scale = np.log([50.0, 8.0]), np.array([0.01, 0.03])
    fields, found = field_quantiles(raw, ("standardised_close",), last, scale, 4, 1, recentre=False)
    assert fields == ("close",)
    np.testing.assert_allclose(found[:, :, 0, 1], np.exp(last)[:, None] * np.ones(4))
    width = np.log(found[:, :, 0, 2] / found[:, :, 0, 1])
    np.testing.assert_allclose(width, 1.2 * scale[:, None] * np.sqrt([1, 2, 3, 4]))


def test_a_lookback_without_a_bar_beside_the_anchors_is_refused() -> None:
    with pytest.raises(CandlecastError, match=r"A, 12 bars.*16.*windows\.lookback_window"):
        inputs().rows("A", STAMPS[:12], bars()[:12], STAMPS[12:14])


def test_a_checkpoint_of_closes_is_read_as_such_under_settings_of_the_packaged_weights() -> None:
    settings = Settings(chronos2=PACKAGED)
    old = {"settings": {"targets": ["close"], "past_covariates": [], "future_covariates": ["weekday"]}}
    read = with_inputs_of(old, settings).chronos2
    assert (read.targets, read.past_covariates, read.future_covariates) == (("close",), (), ("weekday",))
    own = {"settings": {"targets": ["standardised_close"], "past_covariates": ["volume"]}}
    assert with_inputs_of(own, settings) is settings
    assert with_inputs_of(own, Settings()).chronos2.past_covariates == ("volume",)


def test_the_packaged_weights_state_their_inputs_and_others_are_refused(tmp_path: Path) -> None:
    card = json.loads((WEIGHTS / "chronos2_model" / "card.json").read_text())
    assert {key: tuple(card["settings"][key]) for key in PACKAGED_INPUTS} == dict(PACKAGED_INPUTS)
    assert load_settings(packaged_file("candlecast.toml"), home=tmp_path).chronos2.targets == PACKAGED_INPUTS["targets"]
    starting_weights("chronos2_model", Settings(home=tmp_path, chronos2=PACKAGED))
    other = Settings(home=tmp_path, chronos2=Chronos2Settings(base="packaged", targets=("close",)))
    with pytest.raises(CandlecastError, match=r"chronos2\.base = 'packaged'.*'standardised_close'.*'close'"):
        starting_weights("chronos2_model", other)
    with pytest.raises(ValueError, match=r"standardised_close.*alone"):
        Chronos2Settings(targets=("standardised_close", "range"))


def test_the_packaged_weights_return_one_shape_whatever_their_input_as_their_card_states() -> None:
    folder = WEIGHTS / "chronos2_model"
    model = Chronos2Pipeline.from_pretrained(str(folder)).model.eval()
    rising = bars() * np.linspace(1, 2, len(STAMPS))[:, None]
    windows = [bars(seed, volatility) for seed in (1, 2) for volatility in (0.003, 0.02, 0.1)] + [rising]
    read = inputs(PACKAGED.past_covariates)
    rows = [read.rows("A", STAMPS[:ORIGIN], one[:ORIGIN], STAMPS[ORIGIN:])[0] for one in windows]
    series = torch.from_numpy(np.concatenate(rows).astype(np.float32))
    groups = torch.arange(len(windows)).repeat_interleave(2)
    with torch.inference_mode():
        found = model(context=series, group_ids=groups, num_output_patches=2).quantile_preds[::2]
    assert float(found.std(dim=0).max()) < 0.001 < 0.5 < float(found[0].std())
    assert json.loads((folder / "card.json").read_text())["note"] == NOTES["chronos2_model"]
