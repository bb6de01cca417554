"""Common style of all plots: matplotlib style, one colour and label per model, figures as PNG.

The plots themselves are in the `plots.py` of each stage.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from resources.derived_models import ANCHORED, RECALIBRATED, raw_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito: distinguishable with colour vision deficiency, and in print.
COLOURS = {
    "kronos": "#0072B2",
    "chronos2": "#D55E00",
    "random_walk": "#555555",
    "random_walk_ewma": "#000000",
    "drift": "#009E73",
    "momentum": "#CC79A7",
    "volatility": "#E69F00",
    "garch": "#56B4E9",
    "gjr_garch": "#17becf",
    "har": "#8c564b",
    "kronos_anchored": "#1b7837",
    "chronos2_anchored": "#b2182b",
    "combination_equal": "#9467bd",
    "combination_crps": "#e377c2",
    "actual": "#111111",
    "benchmark": "#999999",
}
LABELS = {
    "kronos": "Kronos",
    "chronos2": "Chronos-2",
    "random_walk": "Random walk (252-day volatility)",
    "random_walk_ewma": "Random walk (EWMA volatility)",
    "drift": "Drift",
    "momentum": "Momentum",
    "volatility": "Volatility model",
    "garch": "GARCH(1,1)-t",
    "gjr_garch": "GJR-GARCH-t",
    "har": "HAR (log ranges)",
    "combination_equal": "Combination (equal weights)",
    "combination_crps": "Combination (CRPS weights)",
}
_DERIVED = {RECALIBRATED: "(recalibrated)", ANCHORED: "anchored"}
# Of models that the settings name; which one follows from the name, so that it is the same in every plot.
OTHER_COLOURS = (
    "#56B4E9", "#E69F00", "#F0E442", "#8c564b", "#9467bd", "#17becf", "#bcbd22", "#e377c2", "#1b7837", "#b2182b",
)  # fmt: skip
# Of PNG: half the time of the default (6) for the same size, of charts.
COMPRESSION = 3
# Inches around panels: tick labels at the left (seven digits) and below (dates on two lines), and the title.
LEFT, RIGHT, TOP, BOTTOM = 0.6, 0.12, 0.26, 0.48
STYLE: dict[str, Any] = {
    "figure.dpi": 130,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
}


def label(model: str) -> str:
    """The display name of a model."""
    for suffix, text in _DERIVED.items():
        if model.endswith(suffix):
            return f"{label(model.removesuffix(suffix))} {text}"
    return LABELS.get(model, model)


def model_colour(model: str) -> str:
    """The colour of a model, and of its recalibrated forecasts."""
    model = raw_model(model)
    return COLOURS.get(model, OTHER_COLOURS[zlib.crc32(model.encode()) % len(OTHER_COLOURS)])


@contextmanager
def figure(width: float, height: float, measured: bool = True) -> Iterator[Figure]:
    """A figure of `width` × `height` inches in the common style, without global state.

    Args:
        measured: place the axes by the measured size of their texts, which takes as long as drawing them once more;
            else by `panels`.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        drawn = Figure(figsize=(width, height), layout="constrained" if measured else None)
        FigureCanvasAgg(drawn)
        yield drawn


def panels(
    drawn: Figure, count: int, columns: int, *, same_x: bool = False, same_y: bool = False, beside: float = 0.0
) -> list[Axes]:
    """Axes in rows of `columns`, with fixed margins for titles and tick labels; an axis that is the same in all has
    labels at the outer panels alone.

    Args:
        beside: inches left free at the right.
    """
    rows, (width, height) = -(-count // columns), drawn.get_size_inches()
    across, down = (0.15 if same_y else LEFT), (TOP + 0.1 if same_x else TOP + BOTTOM)
    right = RIGHT + beside
    one_wide = (width - LEFT - right - across * (columns - 1)) / columns
    one_high = (height - TOP - BOTTOM - down * (rows - 1)) / rows
    grid = drawn.add_gridspec(
        rows,
        columns,
        left=LEFT / width,
        right=1 - right / width,
        bottom=BOTTOM / height,
        top=1 - TOP / height,
        wspace=across / one_wide,
        hspace=down / one_high,
    )
    made = list(grid.subplots(sharex=same_x, sharey=same_y, squeeze=False).flat)
    for empty in made[count:]:
        empty.remove()
    for lowest in made[max(0, count - columns) : count]:
        lowest.tick_params(labelbottom=True)
    return made[:count]


def format_dates(axes: Axes, most: int, least: int = 5) -> None:
    """From `least` to `most` dates or times on the horizontal axis, in the shortest form; of a single one its date."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, num2date

    first, last = axes.dataLim.intervalx
    if first == last:
        axes.set_xlim(first - 1, last + 1)
        axes.set_xticks([first], [f"{num2date(first):%Y-%m-%d}"])
        return
    locator = AutoDateLocator(minticks=least, maxticks=most)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def png(drawn: Figure) -> bytes:
    """The figure as PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": COMPRESSION})
    return buffer.getvalue()
