"""The simulated market of the benchmark of a planted signal, and its oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.market.history import CLOSE, FIELDS
from assets.training.model_selection.scoring import score_forecasts, tasks_at_origins
from benchmarks.planted_signal import BASELINE, oracle, planted_settings, shifted, simulated_market

PHI = 0.4
HIGH, LOW = FIELDS.index("high"), FIELDS.index("low")


def test_the_planted_autocorrelation_is_in_the_bars_and_the_oracle_knows_it(tmp_path: Path) -> None:
    market = simulated_market(symbols=6, bars=900, phi=PHI, seed=3)
    settings = planted_settings(tmp_path, steps=1, bars=900)
    for history in market.values():
        bars = history.quoted
        assert (bars[:, LOW] <= bars[:, : CLOSE + 1].min(axis=1)).all()
        assert (bars[:, HIGH] >= bars[:, : CLOSE + 1].max(axis=1)).all()
        returns = np.diff(np.log(bars[:, CLOSE]))
        assert abs(np.corrcoef(returns[1:], returns[:-1])[0, 1] - PHI) < 0.12
    walk = next(one for one in baseline_forecasters(settings) if one.model == BASELINE).load()
    levels, median = settings.forecasts.levels, settings.forecasts.levels.index(0.5)
    tasks = tasks_at_origins(market, list(market["S000"].stamps[100::9]), 90, 10)
    known = oracle(walk, PHI)
    variants = (walk, known, shifted(known, np.zeros_like, median))
    plain, centred, back = (score_forecasts(one, tasks, 10, levels, 1024) for one in variants)
    first = plain["step"] == 1
    assert centred["crps"][first].mean() < 0.97 * plain["crps"][first].mean()
    np.testing.assert_allclose(back["crps"], plain["crps"], rtol=1e-9)
