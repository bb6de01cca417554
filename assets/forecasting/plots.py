"""Charts of forecasts: fan charts with the actual closes, and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from assets.forecasting.actuals import actual_closes
from assets.forecasting.fan import draw_fan, mark_origin
from assets.market.history import BarHistory
from assets.plots import COLOURS, figure, format_dates, label, model_colour, panels, png
from resources.warehouse import Warehouse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAST_BARS = 40
MOST_IN_LEGEND = 8
# So many of size 8 are as wide as a panel.
TITLE_CHARACTERS = 60
# The least range of an axis of differences between shares.
DIFFERENCES = 0.12

_FAN = """
SELECT step, target_ts, level, value FROM forecast_quantiles
WHERE model = $model AND checkpoint = $checkpoint AND symbol = $symbol AND origin = $origin AND field = 'close'
ORDER BY step, level
"""
_EXAMPLES = """
SELECT symbol, origin, max(target_ts) AS ends FROM forecast_quantiles
WHERE model = $model AND checkpoint = $checkpoint AND origin BETWEEN $first AND $last AND level = 0.5
  AND list_contains($symbols, symbol)
GROUP BY ALL ORDER BY origin, symbol
"""


@dataclass(frozen=True)
class Fan:
    """One forecast and the closes before and after its origin, in prices as quoted at the origin."""

    model: str
    symbol: str
    origin: np.datetime64
    in_sample: bool
    past_stamps: np.ndarray
    past: np.ndarray
    targets: np.ndarray
    levels: np.ndarray
    quantiles: np.ndarray
    actual: np.ndarray

    @property
    def stamps(self) -> np.ndarray:
        """The origin and the timestamps of the forecast, (1 + horizon,)."""
        return np.concatenate([[self.origin], self.targets])

    @property
    def from_origin(self) -> dict[float, np.ndarray]:
        """The quantiles by level, after the close at the origin: (1 + horizon,) each."""
        return {
            float(level): np.r_[self.past[-1], own] for level, own in zip(self.levels, self.quantiles.T, strict=True)
        }


def read_fan(
    warehouse: Warehouse,
    history: BarHistory,
    model: str,
    checkpoint: str,
    origin: np.datetime64,
    in_sample: bool = False,
) -> Fan | None:
    """The data of one fan chart; None if there is no such forecast."""
    found = warehouse.frame(
        _FAN, {"model": model, "checkpoint": checkpoint, "symbol": history.symbol, "origin": origin.item()}
    )
    index = history.index_of(origin)
    if found.empty or index is None:
        return None
    wide = found.pivot(index="target_ts", columns="level", values="value")
    targets = wide.index.to_numpy().astype("datetime64[s]")
    first = max(0, index - PAST_BARS)
    return Fan(
        model=model,
        symbol=history.symbol,
        origin=origin,
        in_sample=in_sample,
        past_stamps=history.stamps[first : index + 1],
        past=history.closes_as_of(index, first=first),
        targets=targets,
        levels=wide.columns.to_numpy(dtype=np.float64),
        quantiles=wide.to_numpy(),
        actual=actual_closes(history, index, targets),
    )


def example_forecasts(
    warehouse: Warehouse,
    histories: Mapping[str, BarHistory],
    model: str,
    checkpoint: str,
    origins: Sequence[np.datetime64],
    count: int,
) -> list[tuple[str, np.datetime64]]:
    """(symbol, origin) of up to `count` forecasts to show, all from one origin.

    The newest origin whose actuals are all known; if there is none, the newest origin. Stored forecasts of symbols that
    are not in `histories` are not shown: a run of fewer symbols does not read their bars.
    """
    span: dict[str, object] = {"first": min(origins).item(), "last": max(origins).item()}
    forecasts = warehouse.frame(
        _EXAMPLES, {"model": model, "checkpoint": checkpoint, "symbols": list(histories), **span}
    )
    if forecasts.empty:
        return []
    newest_bar = max(history.stamps[-1] for history in histories.values())
    complete = forecasts[forecasts["ends"] <= newest_bar]
    shown = (forecasts if complete.empty else complete)["origin"].iloc[-1]
    symbols = forecasts.loc[forecasts["origin"] == shown, "symbol"].tolist()
    return [(symbol, shown.to_datetime64().astype("datetime64[s]")) for symbol in symbols[:count]]


def fan_chart(fans: Sequence[Fan], columns: int = 2) -> bytes:
    """Fan charts side by side, as PNG. Those of the same bars and origin have the same axes."""
    rows = -(-len(fans) // columns)
    same_x = all(np.array_equal(one.stamps, fans[0].stamps) for one in fans)
    same_x &= len({one.past_stamps[0] for one in fans}) == 1
    same_y = same_x and len({one.symbol for one in fans}) == 1
    with figure(4.6 * columns, 2.5 * rows, measured=False) as drawn:
        for axes, fan in zip(panels(drawn, len(fans), columns, same_x=same_x, same_y=same_y), fans, strict=True):
            _draw_fan(axes, fan)
        drawn.axes[0].legend(loc="lower left")
        return png(drawn)


def calibration_chart(calibrated: Mapping[str, pd.DataFrame]) -> bytes:
    """The share of actual closes at or below each quantile, by model, as PNG. Calibrated: on the diagonal.

    Args:
        calibrated: by model, a frame with the columns level and share.
    """
    beside = 2.6 if len(calibrated) > MOST_IN_LEGEND else 0.0
    with figure(4.6 + beside, 4.2, measured=False) as drawn:
        (axes,) = panels(drawn, 1, 1, beside=beside)
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":", label="calibrated")
        for model, frame in calibrated.items():
            axes.plot(frame["level"], frame["share"], "o-", markersize=3, color=model_colour(model), label=label(model))
        axes.set(xlim=(0, 1), ylim=(0, 1), title="Calibration")
        axes.set(xlabel="quantile level", ylabel="share of actual closes at or below")
        if beside:
            axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, fontsize=7)
        else:
            axes.legend(loc="upper left")
        return png(drawn)


def before_after_chart(pairs: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], columns: int = 4) -> bytes:
    """By model, the share of actual closes at or below each quantile minus its level, before and after recalibration: a
    PNG. Calibrated: on the zero line.

    Args:
        pairs: by model, two frames with the columns level and share.
    """
    rows = -(-len(pairs) // columns)
    with figure(2.4 * columns, 1.9 * rows, measured=False) as drawn:
        every = panels(drawn, len(pairs), columns, same_x=True, same_y=True)
        for axes, (model, frames) in zip(every, pairs.items(), strict=True):
            axes.axhline(0, color="#999999", linewidth=1, linestyle=":")
            for frame, name, style in zip(frames, ("before", "after"), ("--", "-"), strict=True):
                axes.plot(frame["level"], frame["share"] - frame["level"], style, color=model_colour(model), label=name)
            axes.set_title(label(model), fontsize=7.5)
        found = np.concatenate([one["share"] - one["level"] for frames in pairs.values() for one in frames])
        most = max(DIFFERENCES, 1.05 * np.nanmax(np.abs(found), initial=0.0))
        every[0].set(xlim=(0, 1), ylim=(-most, most), xticks=(0, 0.25, 0.5, 0.75))
        every[0].legend(loc="lower right", fontsize=6.5)
        return png(drawn)


def _draw_fan(axes: Axes, fan: Fan) -> None:
    stamps = fan.stamps
    draw_fan(axes, stamps, fan.from_origin, model_colour(fan.model))
    axes.plot(fan.past_stamps, fan.past, color=COLOURS["actual"])
    axes.plot(stamps, np.r_[fan.past[-1], fan.actual], color=COLOURS["actual"], linestyle="--", label="actual close")
    mark_origin(axes, fan.origin)
    mark = " (in sample)" if fan.in_sample else ""
    title = f"{label(fan.model)}: {fan.symbol} from {fan.origin.astype('datetime64[D]')}{mark}"
    axes.set_title(title, fontsize=min(8, 8 * TITLE_CHARACTERS / len(title)))
    format_dates(axes, 6)
