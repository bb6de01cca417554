"""Known covariates lower the error of a Chronos-2 that has learnt to use them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assets.examples.covariate_gain import Gain, covariate_gains, has_effect
from assets.examples.forecasts import HORIZON
from assets.examples.training_series import synthetic_series
from assets.forecasting.series.models import PACKAGED_FOLDER

ROOT = Path(__file__).resolve().parents[2]
# Not those of the fit.
UNSEEN = 911


def _by_name(gains: list[Gain]) -> dict[str, Gain]:
    return {f"{gain.metric} {gain.against}": gain for gain in gains}


def test_known_covariates_lower_the_error_of_the_packaged_weights() -> None:
    from chronos import Chronos2Pipeline

    pipeline = Chronos2Pipeline.from_pretrained(PACKAGED_FOLDER)
    series = list(synthetic_series(60, pipeline.model_context_length + HORIZON, UNSEEN))
    gains = _by_name(covariate_gains(pipeline, series, HORIZON))
    assert all(gain.low > 0.25 for gain in gains.values()), gains
    assert gains["mae without"].series == sum(map(has_effect, series)) > 20


FIT = """
import sys
from pathlib import Path
from assets.examples.fit import fit_on_synthetic_series
from resources.settings import Chronos2Settings
shape = Chronos2Settings(
    context_length=64, d_model=64, d_ff=256, num_layers=3, patch_size=8, steps=900, batch_size=64,
    learning_rate=3e-3, evaluate_every=300,
)
fit_on_synthetic_series(shape, 16, series=4000, seed=3).save_pretrained(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_model_that_is_fitted_on_series_with_covariates_learns_to_use_them(tmp_path: Path) -> None:
    """From random weights. Effects are drawn anew for every series: they are in the context, not in the weights."""
    from chronos import Chronos2Pipeline

    subprocess.run([sys.executable, "-c", FIT, str(tmp_path)], check=True, cwd=ROOT)
    pipeline = Chronos2Pipeline.from_pretrained(tmp_path)
    gains = _by_name(covariate_gains(pipeline, synthetic_series(200, 300, UNSEEN), 16))
    assert all(gain.low > 0.1 for gain in gains.values()), gains
