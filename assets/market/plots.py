"""Plots of the market data as PNG: coverage per symbol and year, rejections per rule, flags, corporate actions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from assets.plots import figure, format_dates, png

MOST_SYMBOLS = 120
# So few have ticks at parts of a year.
FEW_YEARS = 6
GREEN, RED, BLUE = "#009E73", "#D55E00", "#0072B2"


def coverage_picture(shown: pd.DataFrame, symbols: int) -> bytes:
    """Heat map of coverage: one row per symbol, one column per year; white: no bars, dark: all expected bars.

    Args:
        shown: the first of all `symbols`, MOST_SYMBOLS at most.
    """
    if shown.empty:
        return counts_picture(pd.Series(dtype=int), "Coverage: bars stored, of those the calendar expects")
    height = 1.1 + max(0.14 * len(shown), 0.8)
    with figure(8, height) as drawn:
        axes = drawn.subplots()
        axes.grid(False)
        image = axes.imshow(np.nan_to_num(shown.to_numpy(dtype=float)), cmap="Greens", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(shown.columns)), [str(year) for year in shown.columns], rotation=45)
        axes.set_yticks(range(len(shown)), shown.index, fontsize=6 if len(shown) > 20 else 8)
        more = f", first {len(shown)} of {symbols} symbols" if symbols > len(shown) else ""
        axes.set_title(f"Coverage: bars stored, of those the calendar expects, by year{more}")
        drawn.colorbar(image, ax=axes, shrink=min(1.0, 2.0 / height), label="share")
        return png(drawn)


def counts_picture(counts: pd.Series, title: str, colour: str = RED) -> bytes:
    """Bar chart of counts by name on a logarithmic scale, the largest on top."""
    ordered = counts.sort_values()
    with figure(8, 1.0 + 0.26 * max(1, len(ordered))) as drawn:
        axes = drawn.subplots()
        axes.set_title(title)
        if ordered.empty:
            axes.set_axis_off()
            axes.text(0, 0.5, "none", transform=axes.transAxes)
            return png(drawn)
        drawn_bars = axes.barh(range(len(ordered)), ordered.to_numpy(), color=colour, height=0.7)
        axes.bar_label(drawn_bars, labels=[f"{count:,}" for count in ordered], padding=3, fontsize=8)
        axes.set_yticks(range(len(ordered)), [str(name).replace("_", " ") for name in ordered.index])
        axes.set_xscale("log")
        axes.set_xlim(0.8, ordered.max() * 4)
        axes.set_xlabel("rows")
        return png(drawn)


def rows_by_day(payloads: pd.DataFrame) -> pd.Series:
    """The number of rows by the day on which their payload was received.

    Args:
        payloads: columns rows and fetched_at, one row per payload.
    """
    return payloads.assign(day=pd.to_datetime(payloads["fetched_at"]).dt.floor("D")).groupby("day")["rows"].sum()


def payloads_picture(by_day: pd.Series, payloads: int) -> bytes:
    """Cumulative number of rows in the lake, in so many payloads, by the day on which they were received."""
    total = by_day.cumsum()
    with figure(8, 2.4) as drawn:
        axes = drawn.subplots()
        axes.set_title(f"Rows received: {int(by_day.sum()):,} in {payloads:,} payload{'s' * (payloads != 1)}")
        axes.plot(total.index, total.to_numpy(), "o-", color=BLUE, drawstyle="steps-post", markersize=3)
        format_dates(axes, 8, least=3)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("rows")
        return png(drawn)


def actions_by_year(actions: pd.DataFrame) -> pd.DataFrame:
    """The number of corporate actions, one row per year, one column per kind."""
    years = actions.assign(year=pd.to_datetime(actions["ex_date"]).dt.year)
    return years.groupby(["year", "kind"]).size().unstack(fill_value=0)


def actions_picture(by_year: pd.DataFrame) -> bytes:
    """Bar chart of the number of splits and dividends per year."""
    with figure(8, 2.6) as drawn:
        axes = drawn.subplots()
        axes.set_title("Splits and dividends by year")
        for kind, colour, offset in (("dividend", GREEN, -0.2), ("split", BLUE, 0.2)):
            if kind in by_year:
                axes.bar(by_year.index + offset, by_year[kind], width=0.4, color=colour, label=f"{kind}s")
        if len(by_year) and np.ptp(by_year.index) < FEW_YEARS:
            axes.set_xticks(range(by_year.index.min(), by_year.index.max() + 1))
        axes.legend()
        return png(drawn)
