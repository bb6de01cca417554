"""The simulated market of the benchmark of a planted signal, its oracle, and weights that learn from single bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasting.chronos2.compact import new_chronos2
from assets.market.history import CLOSE, FIELDS
from assets.training.checkpoint_request import checkpoint_request
from assets.training.data.current_windows import TrainingWindows
from assets.training.model_selection.scoring import score_forecasts, tasks_at_origins
from benchmarks.planted_signal import BASELINE, Base, on_last_close, oracle, planted_settings, simulated_market
from resources.settings import Chronos2Settings

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
    variants = (walk, known, on_last_close(known, median))
    plain, centred, back = (score_forecasts(one, tasks, 10, levels, 1024) for one in variants)
    first = plain["step"] == 1
    assert centred["crps"][first].mean() < 0.97 * plain["crps"][first].mean()
    np.testing.assert_allclose(back["crps"], plain["crps"], rtol=1e-9)


def test_fan_in_weights_distinguish_inputs_before_training() -> None:
    def variation(chosen: Chronos2Settings) -> float:
        torch.manual_seed(2)
        model = new_chronos2(chosen, 10).model.eval()
        with torch.inference_mode():
            encoded = model.encode(torch.randn(200, chosen.context_length), num_output_patches=1)
        forecast = encoded[0].last_hidden_state[:, -1]
        return float(forecast.std(dim=0).mean() / forecast.square().mean().sqrt())

    published, fan_in = (variation(Chronos2Settings(initialisation=one)) for one in ("published", "fan_in"))
    assert published < 0.2
    assert fan_in > 0.4


def test_given_weights_have_no_initialisation() -> None:
    with pytest.raises(ValidationError, match='base = "none"'):
        Chronos2Settings(base="packaged", initialisation="fan_in")


def test_recipes_of_the_published_initialisation_stay_as_they_were(tmp_path: Path) -> None:
    def keys(base: Base) -> set[str]:
        request = checkpoint_request(
            "chronos2_model", planted_settings(tmp_path, 1, 900, base), TrainingWindows("digest", tmp_path)
        )
        return set(request.recipe["settings"])

    assert keys("none") - keys("packaged") == {"initialisation", "dropout"}
