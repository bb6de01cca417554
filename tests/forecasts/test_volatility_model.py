"""The volatility model: point-in-time inputs, exact recovery of a planted law, and skill where volatility clusters."""

from __future__ import annotations

import numpy as np
import pytest

from assets.forecasting.forecaster import ForecastTask, Prediction
from assets.forecasting.volatility.features import BARS_READ, PanelFeatures, calendar_inputs
from assets.forecasting.volatility.forecaster import VolatilityPredictor
from assets.forecasting.volatility.panel import Panel, panel_up_to
from assets.forecasting.volatility.regression import LEAST_BARS, MOST_STEPS, VolatilityWeights, design_of, fit
from assets.market.history import BarHistory
from resources.errors import CandlecastError

STEPS = 3
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def _history(symbol: str, bars: int, seed: int, clustering: float = 0.97) -> BarHistory:
    """A martingale whose log variance is an AR(1), with an intraday path for the range."""
    draw = np.random.default_rng(seed)
    log_variance = np.zeros(bars)
    for bar in range(1, bars):
        log_variance[bar] = clustering * log_variance[bar - 1] + 0.25 * draw.standard_normal()
    moves = draw.standard_normal((bars, 40)) * 0.015 / np.sqrt(40) * np.exp(log_variance / 2)[:, None]
    paths = np.cumsum(moves, axis=1) + np.concatenate([[0.0], np.cumsum(moves.sum(axis=1))[:-1]])[:, None]
    prices = 50 * np.exp(paths)
    opens = 50 * np.exp(paths[:, 0] - moves[:, 0])
    volume = 1e6 * np.exp(0.5 * log_variance + 0.2 * draw.standard_normal(bars))
    quoted = np.column_stack(
        [
            opens,
            np.maximum(prices.max(axis=1), opens),
            np.minimum(prices.min(axis=1), opens),
            prices[:, -1],
            volume,
            volume * prices[:, -1],
        ]
    )
    days = np.datetime64("2001-01-01") + np.arange(bars * 7 // 5 + 7)
    stamps = days[np.is_busday(days)][:bars].astype("datetime64[s]")
    return BarHistory(symbol, stamps, quoted, np.ones(bars), np.ones(bars))


@pytest.fixture(scope="module")
def market() -> list[BarHistory]:
    return [_history(f"S{number}", 1600, number) for number in range(6)]


@pytest.fixture(scope="module")
def fitted(market: list[BarHistory]) -> VolatilityWeights:
    return fit(panel_up_to(market), market[0].stamps[0], market[0].stamps[1100], STEPS)


def _quantiles(weights: VolatilityWeights, market: list[BarHistory], origin: int, columns: list[int]) -> np.ndarray:
    stamps = market[0].stamps
    panel = panel_up_to(market, stamps[origin], BARS_READ)
    targets = stamps[origin + 1 : origin + 1 + STEPS]
    design, level = design_of(PanelFeatures(panel), len(panel.stamps) - 1, np.array(columns), stamps[origin], targets)
    return weights.quantiles(weights.deviations(design, level), LEVELS)


def test_bars_after_the_origin_change_no_bit(market: list[BarHistory], fitted: VolatilityWeights) -> None:
    origin, changed = 1200, []
    for history in market:
        quoted = history.quoted.copy()
        quoted[origin + 1 :] *= 3.7
        growth = history.growth.copy()
        growth[origin + 1 :] *= 2
        changed.append(BarHistory(history.symbol, history.stamps, quoted, growth, history.shares))
    columns = list(range(len(market)))
    assert (_quantiles(fitted, market, origin, columns) == _quantiles(fitted, changed, origin, columns)).all()


def test_a_split_changes_no_forecast(market: list[BarHistory], fitted: VolatilityWeights) -> None:
    """Prices as quoted fall to a quarter on the day; the adjusted returns, ranges and volumes stay."""
    split, day = market[2], 1150
    later = np.arange(len(split)) >= day
    quoted = split.quoted.copy()
    quoted[later, :4] /= 4
    quoted[later, 4] *= 4
    after = BarHistory(split.symbol, split.stamps, quoted, np.where(later, 4.0, 1.0), np.where(later, 4.0, 1.0))
    changed = [*market[:2], after, *market[3:]]
    np.testing.assert_allclose(_quantiles(fitted, changed, 1200, [2]), _quantiles(fitted, market, 1200, [2]), rtol=1e-9)


def test_a_forecast_does_not_depend_on_the_symbols_asked_for_beside_it(
    market: list[BarHistory], fitted: VolatilityWeights
) -> None:
    together = _quantiles(fitted, market, 1300, [0, 3, 5])
    assert (together[1] == _quantiles(fitted, market, 1300, [3])[0]).all()
    assert (together[[2, 0]] == _quantiles(fitted, market, 1300, [5, 0])).all()


def test_the_median_is_the_last_close_and_the_law_symmetric(
    market: list[BarHistory], fitted: VolatilityWeights
) -> None:
    quantiles = _quantiles(fitted, market, 1400, [0, 1, 2])
    assert (quantiles[..., 2] == 0).all()
    np.testing.assert_allclose(quantiles, -quantiles[..., ::-1], rtol=1e-12)
    assert (np.diff(quantiles, axis=-1) > 0).all()
    assert (np.diff(quantiles[..., -1], axis=1) > 0).all()


def test_it_beats_the_baseline_where_volatility_clusters(market: list[BarHistory], fitted: VolatilityWeights) -> None:
    """Out of sample, in pinball loss of one step, against the EWMA volatility under a normal law."""
    normal = np.array([-1.6448536, -0.6744898, 0.0, 0.6744898, 1.6448536])
    own: list[float] = []
    baseline: list[float] = []
    levels = np.asarray(LEVELS)
    for origin in range(1110, 1590, 4):
        panel = panel_up_to(market, market[0].stamps[origin], BARS_READ)
        deviation = np.exp(PanelFeatures(panel).level[-1] / 2)
        moved = np.array([np.log(one.quoted[origin + 1, 3] / one.quoted[origin, 3]) for one in market])
        for losses, quantiles in (
            (own, _quantiles(fitted, market, origin, list(range(len(market))))[:, 0]),
            (baseline, deviation[:, None] * normal),
        ):
            missed = moved[:, None] - quantiles
            losses.append(np.maximum(levels * missed, (levels - 1) * missed).mean())
    skill = 1 - np.array(own) / np.array(baseline)
    blocks = skill.reshape(12, -1).mean(axis=1)
    assert blocks.mean() - 1.8 * blocks.std(ddof=1) / np.sqrt(12) > 0.005


def test_the_variance_of_a_constant_law_is_recovered() -> None:
    """Without clustering the deviation is that of the returns, and grows with the root of the step."""
    market = [_history(f"C{number}", 1300, 50 + number, clustering=0.0) for number in range(5)]
    weights = fit(panel_up_to(market), market[0].stamps[0], market[0].stamps[-1], STEPS)
    quantiles = _quantiles(weights, market, 1250, list(range(5)))
    returns = np.concatenate([np.diff(np.log(one.quoted[:, 3])) for one in market])
    assert quantiles[:, 0, -1].mean() == pytest.approx(np.quantile(returns, 0.95), rel=0.08)
    assert (quantiles[:, 2, -1] / quantiles[:, 0, -1]).mean() == pytest.approx(np.sqrt(3), rel=0.1)


def test_a_symbol_without_enough_bars_has_no_level(market: list[BarHistory]) -> None:
    young = BarHistory(
        "YOUNG", *(part[-10:] for part in (market[0].stamps, market[0].quoted, market[0].growth, market[0].shares))
    )
    panel = panel_up_to([*market, young])
    assert np.isnan(PanelFeatures(panel).level[-11, -1])
    with pytest.raises(CandlecastError, match=r"windows\.train"):
        fit(panel_up_to([young]), young.stamps[0], young.stamps[-1], STEPS)
    assert len(young) < LEAST_BARS


def test_bars_without_volume_or_movement_give_finite_inputs() -> None:
    history = _history("FLAT", 900, 9)
    quoted = history.quoted.copy()
    quoted[400:500, :4] = 50.0
    quoted[:, 4] = np.nan
    panel = panel_up_to([BarHistory("FLAT", history.stamps, quoted, history.growth, history.shares)])
    found = PanelFeatures(panel).inputs(np.arange(320, 900, 20), STEPS)
    assert np.isfinite(found.own).all()
    assert np.isfinite(found.reports).all()


def test_the_calendar_of_a_step_counts_from_the_bar_before_it() -> None:
    origins = np.array(["2010-12-23"], dtype="datetime64[D]")
    targets = np.array([["2010-12-27", "2010-12-28", "2011-01-03"]], dtype="datetime64[D]")
    found = calendar_inputs(origins, targets)[0]
    weekdays, waited, december, first, last = found[:, :4], found[:, 4:7], found[:, 7], found[:, 8], found[:, 9]
    assert weekdays.sum(axis=1).tolist() == [0, 1, 0]
    assert waited.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert (december.tolist(), first.tolist(), last.tolist()) == ([1, 1, 0], [0, 0, 1], [0, 1, 0])


def test_the_panel_has_every_timestamp_of_its_symbols() -> None:
    one, other = _history("A", 40, 1), _history("B", 40, 2)
    gap = np.arange(40) != 20
    short = BarHistory("B", other.stamps[gap], other.quoted[gap], other.growth[gap], other.shares[gap])
    panel: Panel = panel_up_to([one, short], bars=30)
    assert len(panel.stamps) == 30
    assert np.isnan(panel.returns[:, 1]).sum() == 1
    assert panel.returns[0, 0] == pytest.approx(np.log(one.quoted[10, 3] / one.quoted[9, 3]))
    after = np.flatnonzero(panel.stamps == other.stamps[21])[0]
    assert panel.returns[after, 1] == pytest.approx(np.log(other.quoted[21, 3] / other.quoted[19, 3]))


def _predict(
    weights: VolatilityWeights, market: list[BarHistory], asked: list[BarHistory], origin: int, steps: int = STEPS
) -> Prediction:
    """Forecasts of some histories, whether they are the market's or not, from the bar `origin` of each."""
    tasks = [ForecastTask(one.symbol, one.stamps[origin], one, origin) for one in asked]
    targets = np.stack([one.stamps[origin + 1 : origin + 1 + steps] for one in asked])
    return VolatilityPredictor(weights, {one.symbol: one for one in market}, LEVELS).predict(tasks, targets)


def _with_bars(history: BarHistory, rows: slice, columns: slice, value: float) -> BarHistory:
    quoted = history.quoted.copy()
    quoted[rows, columns] = value
    return BarHistory(history.symbol, history.stamps, quoted, history.growth, history.shares)


def test_neither_order_nor_strangers_nor_later_bars_of_the_market_change_a_forecast(
    market: list[BarHistory], fitted: VolatilityWeights
) -> None:
    strangers = [_history("X1", 1600, 71), _history("X2", 1600, 72)]
    alone = _predict(fitted, market, [market[3]], 1200).quantiles
    together = _predict(fitted, market, [strangers[0], market[5], market[3], strangers[1]], 1200).quantiles
    assert (together[2] == alone[0]).all()
    assert (together[0] == _predict(fitted, market, [strangers[0]], 1200).quantiles[0]).all()
    later = [_with_bars(one, slice(1201, None), slice(0, 4), 7.0) for one in market]
    assert (_predict(fitted, later, [market[3]], 1200).quantiles == alone).all()
    earlier = [*market[:4], _with_bars(market[4], slice(1150, 1160), slice(1, 2), 900.0), market[5]]
    assert (_predict(fitted, earlier, [market[3]], 1200).quantiles != alone).any(), "it reads the market"


def test_what_cannot_be_forecast_has_a_reason_and_spoils_no_other(
    market: list[BarHistory], fitted: VolatilityWeights
) -> None:
    asked = [
        market[0],
        _with_bars(market[1], slice(900, 1201), slice(0, 4), 50.0),
        _with_bars(market[2], slice(1200, 1201), slice(3, 4), 0.0),
        _with_bars(market[3], slice(0, None), slice(4, 6), np.nan),
    ]
    found = _predict(fitted, market, asked, 1200)
    assert {row: reason.split(":")[0] for row, reason in found.failures.items()} == {
        1: "the close has not changed for a year",
        2: "the close of the origin, or the one before, is not positive",
    }
    assert np.isfinite(found.quantiles[[0, 3]]).all() and (found.quantiles[[0, 3]] > 0).all()
    young = [
        BarHistory(f"Y{n}", *(p[-n:] for p in (market[0].stamps, market[0].quoted, *[np.ones(1600)] * 2)))
        for n in (9, 8)
    ]
    first = _predict(fitted, market, young, 0)
    assert {reason.split(":")[0] for reason in first.failures.values()} == {"it is the first bar of the symbol"}
    assert np.isfinite(_predict(fitted, market, young, 2).quantiles).all()


def test_a_single_symbol_and_a_horizon_beyond_the_fitted_steps_are_forecast(
    market: list[BarHistory], fitted: VolatilityWeights
) -> None:
    found = _predict(fitted, market[:1], market[:1], 1200, steps=2 * STEPS)
    assert not found.failures and np.isfinite(found.quantiles).all()
    widths = found.quantiles[0, :, 0, -1] - found.quantiles[0, :, 0, 0]
    assert (np.diff(widths) > 0).all()
    lone, among = (_predict(fitted, given, market[:1], 1200).quantiles[0, 0, 0] for given in (market[:1], market))
    assert np.log(lone[-1] / lone[0]) == pytest.approx(np.log(among[-1] / among[0]), rel=0.5)


def test_intraday_bars_are_fitted_and_forecast() -> None:
    draw = np.random.default_rng(4)
    histories = []
    for number in range(2):
        days = np.arange("2010-01-04", "2010-05-01", dtype="datetime64[D]")
        days = days[np.is_busday(days)]
        stamps = (days[:, None] + np.arange(14, 21) * np.timedelta64(1, "h")).ravel().astype("datetime64[s]")
        closes = 20 * np.exp(np.cumsum(draw.normal(0, 0.004, len(stamps))))
        ones = np.ones(len(stamps))
        quoted = np.column_stack([closes, closes * 1.002, closes * 0.998, closes, ones * np.nan, ones * np.nan])
        histories.append(BarHistory(f"H{number}", stamps, quoted, ones, ones))
    weights = fit(panel_up_to(histories), histories[0].stamps[0], histories[0].stamps[-1], 25)
    assert weights.steps == MOST_STEPS < 25
    found = _predict(weights, histories, histories, 500, steps=25)
    assert not found.failures and np.isfinite(found.quantiles).all()
    spread = np.log(found.quantiles[0, 0, 0, -1] / found.quantiles[0, 0, 0, 0])
    assert spread == pytest.approx(2 * 1.645 * 0.004, rel=0.35)
