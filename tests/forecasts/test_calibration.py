"""Anchoring and recalibration on simulated forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri

from assets.forecasting.calibration.anchoring import Anchoring
from assets.forecasting.calibration.combination import Combination
from assets.forecasting.calibration.models import learnt_frame
from assets.forecasting.calibration.panel import LEAST_ORIGINS, ForecastPanel, Learn
from assets.forecasting.calibration.recalibration import EDGES, Recalibration, standardised

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
STEPS, SYMBOLS, HALF_LIFE = 3, 8, 365
DAY = np.timedelta64(1, "D")


def _panel(seed: int, origins: int = 80, view: float = 0.0, width: float = 1.0) -> ForecastPanel:
    """Forecasts by a model, and by one that knows the scale and no direction.

    Args:
        view: standard deviation of the part of the return that the model knows, over the volatility.
        width: of the model's bands, over the true one.
    """
    rng = np.random.default_rng(seed)
    shape = (origins * SYMBOLS, STEPS)
    volatility = np.exp(rng.normal(-4, 0.5, (len(range(shape[0])), 1))) * np.sqrt(np.arange(1, STEPS + 1))
    direction = view * rng.standard_normal(shape) * volatility
    outcomes = direction + rng.standard_normal(shape) * volatility * np.sqrt(1 - min(view, 0.9) ** 2)
    bands = volatility[..., None] * ndtri(LEVELS)
    stamps = np.repeat(np.datetime64("2010-01-04", "s") + np.arange(origins) * 7 * DAY, SYMBOLS)
    targets = stamps[:, None] + np.arange(1, STEPS + 1) * 3 * DAY
    return ForecastPanel(stamps, targets, np.stack([direction[..., None] + width * bands, bands]), outcomes)


def _only(panel: ForecastPanel, base: int) -> ForecastPanel:
    return replace(panel, quantiles=panel.quantiles[[base]])


def _split(panel: ForecastPanel, origins: int) -> Sequence[ForecastPanel]:
    """The same forecasts in two panels."""
    place = origins * SYMBOLS
    return [
        ForecastPanel(panel.origins[rows], panel.targets[rows], panel.quantiles[:, rows], panel.outcomes[rows])
        for rows in (slice(None, place), slice(place, None))
    ]


LEARN: dict[str, tuple[Learn, Sequence[int]]] = {
    "recalibrated": (Recalibration(LEVELS, STEPS, HALF_LIFE), [0]),
    "anchored": (Anchoring(LEVELS, STEPS, HALF_LIFE), [0, 1]),
}


@pytest.mark.parametrize("kind", [*LEARN, "combined"])
@pytest.mark.parametrize("place", [1, 30, 60])
def test_a_learner_that_continues_from_a_state_derives_the_same_bits(kind: str, place: int) -> None:
    learn, bases = LEARN.get(kind, (Combination(LEVELS, "crps"), [0, 1]))
    panel = _panel(4, view=0.6, width=0.7)
    panel = replace(panel, quantiles=panel.quantiles[bases])
    first, second = _split(panel, place)
    learner = learn.start().after([first])
    state = learner.state()
    learner.after([second])
    continued = learn.start()
    continued.restore(state)
    for _ in range(2):
        derived = continued.after([second]).learnt()(panel.origins, panel.quantiles)
        np.testing.assert_array_equal(derived, learn([panel])(panel.origins, panel.quantiles))
        continued.restore(state)  # which learning has not changed


@pytest.mark.parametrize("kind", LEARN)
@pytest.mark.parametrize("place", [0, 25, 60])
def test_no_outcome_after_an_origin_changes_a_bit_of_what_is_derived_there(kind: str, place: int) -> None:
    (learn, bases), panel = LEARN[kind], _panel(1, view=0.6, width=0.7)
    panel = replace(panel, quantiles=panel.quantiles[bases])
    origin = panel.origins[place * SYMBOLS]
    rows = panel.origins == origin
    changed = replace(panel, outcomes=np.where(panel.targets > origin, 9.0, panel.outcomes))
    later = panel.origins > origin
    changed = replace(changed, quantiles=np.where(later[:, None, None], 7 * panel.quantiles, panel.quantiles))
    before, after = (learn([one])(panel.origins[rows], panel.quantiles[:, rows]) for one in (panel, changed))
    np.testing.assert_array_equal(before, after)
    assert np.isfinite(before).all() and (np.diff(before, axis=-1) >= 0).all()
    if place == 60:
        assert not np.array_equal(before, panel.quantiles[-1, rows])


@pytest.mark.parametrize("kind", LEARN)
def test_order_number_and_batch_of_the_forecasts_change_no_bit(kind: str) -> None:
    (learn, bases), panel = LEARN[kind], _panel(2, view=0.6)
    panel = replace(panel, quantiles=panel.quantiles[bases])
    together = learn([panel])(panel.origins, panel.quantiles)
    derive = learn(_split(panel, 33))
    order = np.random.default_rng(0).permutation(len(panel.origins))[:50]
    np.testing.assert_array_equal(derive(panel.origins[order], panel.quantiles[:, order]), together[order])
    np.testing.assert_array_equal(derive(panel.origins[order[:1]], panel.quantiles[:, order[:1]]), together[order[:1]])


@pytest.mark.parametrize("width", [0.5, 1.5])
def test_recalibrated_bands_cover_their_share_whatever_the_width_of_the_model(width: float) -> None:
    panel = _only(_panel(3, origins=200, width=width), 0)
    found = Recalibration(LEVELS, STEPS, HALF_LIFE)([panel])(panel.origins, panel.quantiles)
    late = slice(100 * SYMBOLS, None)
    for low, high, nominal in ((0, -1, 0.9), (1, -2, 0.8), (2, -3, 0.5)):
        inside = (panel.outcomes >= found[..., low]) & (panel.outcomes <= found[..., high])
        raw = (panel.outcomes >= panel.quantiles[0, ..., low]) & (panel.outcomes <= panel.quantiles[0, ..., high])
        assert inside[late].mean() == pytest.approx(nominal, abs=0.03)
        assert abs(raw[late].mean() - nominal) > 0.06
    np.testing.assert_array_equal(found[..., 3], panel.quantiles[0, ..., 3])


def test_bands_follow_a_volatility_that_the_model_misses_for_months() -> None:
    """The volatility halves and doubles every 40 weeks; the model knows neither."""
    panel = _only(_panel(13, origins=200), 0)
    late = panel.origins >= panel.origins[-80 * SYMBOLS]
    loud = ((panel.origins - panel.origins[0]) // (280 * DAY)) % 2 == 0
    panel = replace(panel, outcomes=panel.outcomes * np.where(loud, 2.0, 0.5)[:, None])
    law = Recalibration(LEVELS, STEPS, HALF_LIFE)([panel])
    assert (law.powers.values[-1] >= 0.75).all()
    without = replace(law, powers=replace(law.powers, values=0 * law.powers.values))
    gaps = []
    for one in (law, without):
        found = one(panel.origins, panel.quantiles)
        inside = (panel.outcomes >= found[..., 1]) & (panel.outcomes <= found[..., -2])
        gaps.append(inside[late & ~loud].mean() - inside[late & loud].mean())
    assert gaps[0] < 0.5 * gaps[1]
    steady = Recalibration(LEVELS, STEPS, HALF_LIFE)([_only(_panel(14, origins=200), 0)])
    assert np.median(np.abs(steady.powers.values * steady.recent.values)[-80:]) < 0.05


def test_with_few_outcomes_a_recalibrated_forecast_is_the_model_and_an_anchored_one_the_volatility_model() -> None:
    panel = _panel(4, origins=LEAST_ORIGINS, view=0.8, width=0.4)
    origins, quantiles = panel.origins[-SYMBOLS:], panel.quantiles[:, -SYMBOLS:]
    raw = Recalibration(LEVELS, STEPS, HALF_LIFE)([_only(panel, 0)])(origins, quantiles[[0]])
    np.testing.assert_array_equal(raw, quantiles[0])
    np.testing.assert_array_equal(Anchoring(LEVELS, STEPS, HALF_LIFE)([panel])(origins, quantiles), quantiles[1])
    for learn, bases in LEARN.values():
        np.testing.assert_array_equal(learn([])(origins, quantiles[bases]), quantiles[bases[-1]])


def test_a_view_on_direction_that_helps_is_kept_and_one_that_is_noise_is_not() -> None:
    informed, noise = _panel(5, view=0.6), _panel(6)
    noise.quantiles[0] += 0.02 * np.random.default_rng(7).standard_normal((*noise.outcomes.shape, 1))
    learn = Anchoring(LEVELS, STEPS, HALF_LIFE)
    kept, dropped = (learn([one]).weights.values[-1, :, 0] for one in (informed, noise))
    assert (kept >= 0.8).all() and (dropped == 0).all()


def test_a_drift_that_all_forecasts_share_is_no_view_on_direction() -> None:
    """Even where it was right: symbols that survived rose."""
    panel, drift = _panel(5), 0.01
    panel.quantiles[0] += drift
    panel.outcomes[:] += drift
    found = Anchoring(LEVELS, STEPS, HALF_LIFE)([panel])
    np.testing.assert_allclose(found.centres[-1], drift)
    derived = found(panel.origins[-2:] + 400 * DAY, panel.quantiles[:, -2:])
    np.testing.assert_allclose(derived[..., len(LEVELS) // 2], 0, atol=1e-12)


def test_a_scale_that_the_volatility_model_lacks_is_taken_over_whatever_its_bias() -> None:
    panel = _panel(8, width=1.6)
    spread = np.exp(np.random.default_rng(9).normal(0, 0.7, (len(panel.origins), 1, 1)))
    panel.quantiles[1] *= spread
    found = Anchoring(LEVELS, STEPS, HALF_LIFE)([panel])
    assert (found.weights.values[-1, :, 1] >= 0.8).all()
    np.testing.assert_allclose(found.ratios[-1], -np.log(1.6), atol=0.15)


def test_a_missing_forecast_gives_none_and_counts_nowhere() -> None:
    panel = _panel(10, view=0.6)
    lost = np.zeros(len(panel.origins), dtype=bool)
    lost[::3] = True
    sparse = replace(panel, quantiles=np.where(lost[:, None, None], np.nan, panel.quantiles))
    for learn, bases in LEARN.values():
        found = learn([replace(sparse, quantiles=sparse.quantiles[bases])])
        derived = found(panel.origins, sparse.quantiles[bases])
        np.testing.assert_array_equal(np.isnan(derived).all(axis=(1, 2)), lost)
        kept = ForecastPanel(
            panel.origins[~lost], panel.targets[~lost], panel.quantiles[bases][:, ~lost], panel.outcomes[~lost]
        )
        np.testing.assert_array_equal(derived[~lost], learn([kept])(kept.origins, kept.quantiles))


def test_the_law_is_that_of_crepes_conformal_predictive_system() -> None:
    """With equal weights, of symmetric errors; but for the width of a bin and the place between two errors."""
    from crepes import ConformalPredictiveSystem

    panel = _only(_panel(11, origins=150, width=0.6), 0)
    law = Recalibration(LEVELS, STEPS, 36_500 * 100)([panel]).quantiles.values[-1]
    errors = standardised(panel.quantiles[0], panel.outcomes, LEVELS)
    for step in range(STEPS):
        system = ConformalPredictiveSystem()
        system.fit(np.concatenate([errors[:, step], -errors[:, step]]))
        percents = [100 * level for level in LEVELS]
        theirs = system.predict_percentiles(np.zeros(1), higher_percentiles=percents)[0]
        np.testing.assert_allclose(law[step], theirs, atol=0.04 + 0.01 * np.abs(theirs).max())
        # Both ends of a band: the value that is forecast counts as one more.
        assert law[step, -1] >= np.quantile(np.abs(errors[:, step]), 0.9) * (1 - 2 * np.diff(np.log(EDGES[-2:]))[0])


def test_what_was_learnt_is_shown_by_step() -> None:
    panel = _panel(12, view=0.6)
    newest = panel.origins[-1]
    anchored = learnt_frame(Anchoring(LEVELS, STEPS, HALF_LIFE)([panel]), newest)
    assert list(anchored["step"]) == [1, 2, 3] and (anchored["λ"] >= 0.8).all()
    # Of 80 origins the last has no outcome yet, and the gain of the first is not known.
    assert (anchored["outcomes"] == 77 * SYMBOLS).sum() >= 1
    raw = learnt_frame(Recalibration(LEVELS, STEPS, HALF_LIFE)([_only(panel, 0)]), newest)
    assert list(raw.columns) == ["step", "outcomes"] and raw["outcomes"].max() == 79 * SYMBOLS
