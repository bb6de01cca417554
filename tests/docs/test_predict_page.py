"""The Python example on the page about `candlecast predict` runs."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "predict-any-series.md"


@pytest.mark.filterwarnings("ignore::assets.forecasting.series_forecast.SeriesWarning")
def test_the_python_example_forecasts(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    forecast = names["forecast"]
    assert isinstance(forecast, pd.DataFrame)
    assert list(forecast.columns) == ["id", "target", "step", "timestamp", "0.1", "0.5", "0.9"]
    assert "digest" in capsys.readouterr().out
