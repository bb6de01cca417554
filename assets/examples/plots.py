"""Pictures of the examples: history, actuals and forecast, and the covariates below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.examples.forecasts import HORIZON, LEVELS, ExampleForecast
from assets.examples.processes import TIMESTAMP
from assets.forecasting.fan import draw_fan, mark_origin
from assets.plots import COLOURS, figure, format_dates, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 5 * HORIZON
UNITS = {"temperature": "°C", "humidity": "%"}


def example_chart(forecast: ExampleForecast) -> bytes:
    """The end of the series with the forecast of its last days, and each covariate below, as PNG."""
    example, shown = forecast.example, forecast.frame.tail(SHOWN)
    covariates = example.covariates
    with figure(8.2, 3.2 + 1.1 * len(covariates)) as drawn:
        heights = [3.0] + [1.0] * len(covariates)
        axes = drawn.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        _draw_forecast(axes[0], forecast)
        for below, name in zip(axes[1:], covariates, strict=True):
            below.plot(shown[TIMESTAMP], shown[name], color=COLOURS["benchmark"])
            below.set_ylabel(f"{name}, {UNITS[name]}" if name in UNITS else name)
            mark_origin(below, shown[TIMESTAMP].iloc[-HORIZON - 1])
        format_dates(axes[-1], 8)
        return png(drawn)


def _draw_forecast(axes: Axes, forecast: ExampleForecast) -> None:
    example, quantiles = forecast.example, forecast.quantiles
    history = forecast.frame.tail(SHOWN).iloc[: SHOWN - HORIZON]
    ahead = quantiles["timestamp"]
    draw_fan(axes, ahead, {level: quantiles[str(level)].to_numpy() for level in LEVELS}, COLOURS["chronos2"])
    axes.plot(history[TIMESTAMP], history[example.target], color=COLOURS["actual"], linewidth=1.0, label="history")
    axes.plot(ahead, quantiles["actual"], color=COLOURS["actual"], linewidth=1.0, linestyle="--", label="actual")
    axes.set_ylabel(f"{example.target}, {example.unit}" if example.unit else example.target)
    scores = forecast.own_scores
    axes.set_title(
        f"MAE {scores['mae']:.3g}, RMSE {scores['rmse']:.3g}, CRPS {scores['crps']:.3g} {example.unit}".strip()
    )
    axes.legend(loc="upper left", ncols=3)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.25 * (top - bottom))  # space for the legend
    mark_origin(axes, history[TIMESTAMP].iloc[-1])
