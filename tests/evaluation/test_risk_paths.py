"""Probabilities of drawdowns and touches: the events, the mapping of paths, and the outcomes in bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri

from assets.evaluation.risk.backtest import reliability
from assets.evaluation.risk.event_measures import event_probabilities, path_laws
from assets.evaluation.risk.event_outcomes import with_outcomes
from assets.evaluation.risk.path_events import mapped, occurs
from assets.market.history import BarHistory

LEVELS = np.round(np.arange(1, 20) / 20, 2)


def _walk(paths: int, steps: int, scale: float) -> np.ndarray:
    """Closes, highs and lows of geometric random walks from 100: (paths, steps, 3)."""
    closes = 100 * np.exp(scale * np.random.default_rng(1).standard_normal((paths, steps)).cumsum(axis=1))
    return np.stack([closes, closes, closes], axis=-1)


def _normal(steps: int, scale: float) -> np.ndarray:
    spread = scale * np.sqrt(np.arange(1, steps + 1))
    return np.asarray(100 * np.exp(spread[:, None] * ndtri(LEVELS)))


def test_a_drawdown_is_measured_from_the_highest_price_up_to_the_bar_before() -> None:
    highs, lows = np.array([[1.0, 1.1, 1.2], [1.1, 1.0, 1.0]]), np.array([[0.98, 1.0, 1.15], [0.99, 0.985, 0.99]])
    # First path: 0.98 of 1, then 1.0 of 1 (the high of the same bar does not count), then 1.15 of 1.1.
    assert occurs(("drawdown", 0.02), highs, lows).tolist() == [True, True]
    assert occurs(("drawdown", 0.03), highs, lows).tolist() == [False, True]
    assert occurs(("drawdown", 0.11), highs, lows).tolist() == [False, False]
    assert occurs(("touch", 0.15), highs, lows).tolist() == [True, False]
    assert occurs(("touch", -0.02), highs, lows).tolist() == [True, False]


def test_paths_that_follow_the_stored_law_keep_their_values() -> None:
    closes = np.random.default_rng(0).standard_normal((200, 3))
    levels = LEVELS
    stored = np.quantile(closes, levels, axis=0, method="median_unbiased").T
    np.testing.assert_allclose(mapped(closes[..., None], closes, stored, levels)[..., 0], closes, atol=1e-12)
    wide = mapped(closes[..., None], closes, 1.5 * stored + 0.1, levels)[..., 0]
    np.testing.assert_allclose(wide, 1.5 * closes + 0.1, atol=1e-12)
    flat = mapped(np.zeros((5, 1, 1)), np.zeros((5, 1)), np.linspace(-1, 1, 19)[None], levels)
    assert np.isfinite(flat).all()


def test_probabilities_have_the_scale_of_the_stored_law() -> None:
    """Paths of twice the scale, mapped to the right law, touch a price as often as the reflection principle says."""
    steps, scale, distance = 50, 0.01, 0.1
    probability, wide = (
        event_probabilities(_walk(4000, steps, 2 * scale), law, LEVELS, 100.0, [("touch", distance)])[0]
        for law in (_normal(steps, scale), _normal(steps, 2 * scale))
    )
    # Closes every step see a barrier that is 0.5826 steps further away (Broadie, Glasserman and Kou, 1997).
    expected, unmapped = (
        2 * ndtr(-(np.log1p(distance) + 0.5826 * one) / (one * np.sqrt(steps))) for one in (scale, 2 * scale)
    )
    assert probability == pytest.approx(expected, abs=0.02)
    assert wide == pytest.approx(unmapped, abs=0.02)
    assert wide > probability + 0.1


def test_derived_models_are_found_by_name() -> None:
    used = dict.fromkeys(["kronos", "kronos_hub", "kronos_anchored", "kronos_anchored_recalibrated", "a_kronos"], "c")
    laws = {model: [name for name, _ in path_laws((model, "c"), used)] for model in ("kronos", "kronos_hub")}
    assert laws["kronos"] == ["kronos", "kronos_anchored", "kronos_anchored_recalibrated"]
    assert laws["kronos_hub"] == ["kronos_hub"]


def test_outcomes_and_base_rates_are_of_the_symbols_own_bars() -> None:
    closes = np.array([100.0, 101, 90, 100, 100, 100, 50, 100, 100, 100])
    stamps = np.datetime64("2012-01-02", "s") + np.arange(10) * np.timedelta64(1, "D")
    quoted = np.column_stack([closes] * 4 + [np.ones(10)] * 2)
    history = BarHistory("A", stamps, quoted, np.ones(10), np.ones(10))
    # The halved price of bar 6 is a split: the growth doubles there and halves again.
    history = BarHistory("A", stamps, quoted, np.where(np.arange(10) == 6, 2.0, 1.0), np.ones(10))
    rows = pd.DataFrame(
        {
            "symbol": "A",
            "origin": stamps[[0, 1, 4, 8]],
            "target_ts": stamps[[2, 3, 6, 9]],
            "measure": "touch",
            "level": -0.05,
        }
    )
    found = with_outcomes(rows, {"A": history}, 2, [("touch", -0.05)])
    # The last forecast has one bar of two.
    assert found["event"].tolist() == [1, 1, 0]
    # Known at bar 4: the bars 0, 1 and 2 had an event (0 and 1); at bars 0 and 1 nothing is known.
    assert found["base_rate"].tolist() == pytest.approx([0.5, 0.5, 2.5 / 4])


def test_calibrated_probabilities_have_no_reliability_term() -> None:
    forecast = np.repeat([0.1, 0.8], 100)
    events = np.r_[np.arange(100) < 10, np.arange(100) < 80].astype(float)
    assert reliability(forecast, events) == pytest.approx(0)
    assert reliability(forecast, 1 - events) == pytest.approx((0.8**2 + 0.6**2) / 2)
