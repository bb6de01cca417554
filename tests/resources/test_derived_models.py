from __future__ import annotations

import pytest
from pydantic import ValidationError

from assets.plots import label, model_colour
from resources.derived_models import is_recalibrated, raw_model, recalibrated
from resources.settings import Settings
from resources.settings_models import ModelSettings


@pytest.mark.parametrize("name", ["mine_recalibrated", "Mine_Anchored", "combination_crps"])
def test_no_model_of_the_settings_has_the_name_of_derived_forecasts(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings(models={name: ModelSettings()})
    assert Settings(models={f"{name}s": ModelSettings()}).enabled_models


def test_recalibrated_forecasts_share_name_and_colour_with_their_model() -> None:
    name = recalibrated("kronos_anchored")
    assert is_recalibrated(name) and not is_recalibrated("kronos_anchored")
    assert raw_model(name) == "kronos_anchored" == raw_model("kronos_anchored")
    assert model_colour(name) == model_colour("kronos_anchored") != model_colour("kronos")
    assert label(name) == "Kronos anchored (recalibrated)"
