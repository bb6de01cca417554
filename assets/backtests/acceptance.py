"""Acceptance checks of signals, Qlib provider, backtest and report: each function returns the problems as text."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.backtests.plan import NoBacktest
from assets.backtests.qlib_backtest import simulate_without_qlib
from assets.backtests.qlib_provider import daily_bars
from assets.backtests.results import BacktestRequest, BacktestResult
from assets.backtests.tradability import REFUSED
from resources.qlib import QlibProvider
from resources.warehouse import Warehouse

TOLERANCE = 1e-10
COMPARED_COLUMNS = ("gross", "cost", "net", "turnover", *REFUSED)
# Markup that makes a browser load another file. Links to click on are allowed.
_EXTERNAL = re.compile(
    r"""<(?:script|link|iframe|object|embed)\b|\bsrc\s*=\s*["'](?!data:)|url\(\s*["']?(?!data:)|@import""",
    re.IGNORECASE,
)
_SIGNALS_WITHOUT_FORECAST = """
SELECT count(*) FROM signals s
ANTI JOIN (SELECT * FROM forecasts WHERE NOT in_sample) f USING (model, checkpoint, symbol, origin)
"""


def signal_problems(warehouse: Warehouse, signals: pd.DataFrame) -> list[str]:
    """Signals that are not finite, not above −1, or that have no out-of-sample forecast."""
    value = signals["value"].to_numpy(dtype=np.float64)
    bad = signals[~np.isfinite(value) | (value <= -1)]
    found = [
        f"{row['model']}: signal of {row['symbol']} at {row['origin']} is {row['value']}, not a return above -1"
        for row in bad.head(3).to_dict("records")
    ]
    with warehouse.read() as connection:
        orphans = int(connection.execute(_SIGNALS_WITHOUT_FORECAST).fetchall()[0][0])
    if orphans:
        found.append(f"{orphans} signals have no out-of-sample forecast: materialise signals again")
    return found


def provider_problems(warehouse: Warehouse, provider: QlibProvider, frequency: str) -> list[str]:
    """Bars that the provider does not reproduce in float32, and values where there is no bar."""
    bars = daily_bars(warehouse, frequency)
    symbols = sorted(set(bars.symbol))
    if sorted(provider.ids) != symbols:
        return ["the symbols of the provider differ from those of the bars: materialise qlib_provider again"]
    column = np.searchsorted(symbols, bars.symbol.astype(str))
    day = np.searchsorted(provider.sessions, bars.session.astype("datetime64[D]"))
    found = []
    for field in ("open", "high", "low", "close", "factor"):
        panel = provider.panel(field, symbols)
        wrong = panel[day, column] != getattr(bars, field).astype(np.float32)
        if wrong.any():
            row = int(np.argmax(wrong))
            found.append(
                f"{field} of {bars.symbol[row]} on {bars.session[row]} differs: materialise qlib_provider again"
            )
        if np.isfinite(panel).sum() != len(bars):
            found.append(f"{field} has values where there is no bar")
    return found


def accounting_problems(days: pd.DataFrame, account: float) -> list[str]:
    """Sessions whose net return is not gross − cost, and accounts that do not compound the net returns."""
    found = []
    error = np.abs(days["gross"].to_numpy() - days["cost"].to_numpy() - days["net"].to_numpy())
    if (error > TOLERANCE).any():
        row = days.iloc[int(np.argmax(error))]
        found.append(f"{row['model']} on {row['session']:%Y-%m-%d}: net differs from gross − cost by {error.max():.2g}")
    for model, own in days.groupby("model"):
        compounded = account * np.cumprod(1 + own["net"].to_numpy())
        if not np.allclose(compounded, own["account"], rtol=TOLERANCE, atol=0):
            found.append(f"{model}: the account does not compound the net returns")
    return found


@dataclass(frozen=True)
class Difference:
    """Where Qlib's daily results and those of our own loop differ most: `size` is absolute, `where` is text."""

    size: float
    where: str

    @property
    def problem(self) -> str | None:
        """The difference as text, with what to do; None: it is one of rounding."""
        if self.size <= TOLERANCE:
            return None
        return (
            f"{self.where}. Remove backtests/ in the home and run again: Qlib then simulates every session. If they "
            "still differ, report it."
        )


def largest_difference(request: BacktestRequest, result: BacktestResult) -> Difference | None:
    """The largest difference between Qlib's daily results and our own loop's, of all sessions. None: no backtest."""
    if isinstance(result.plan, NoBacktest):
        return None
    days, reference = result.days, simulate_without_qlib(result.plan, request.prices, request.rules)
    if not days[["model", "session"]].equals(reference[["model", "session"]]):
        return Difference(float("inf"), "the models or sessions of Qlib's results are not those of the signals")
    ours, qlib = (frame[list(COMPARED_COLUMNS)].to_numpy(dtype=np.float64) for frame in (reference, days))
    sizes = np.abs(qlib - ours)
    row, column = np.unravel_index(np.argmax(sizes), sizes.shape)
    name, of = COMPARED_COLUMNS[column], days.iloc[int(row)]
    where = f"{of['model']}, {of['session']:%Y-%m-%d}, {name}: {qlib[row, column]} in Qlib, {ours[row, column]} in ours"
    return Difference(float(sizes[row, column]), where)


def external_resources(html: str) -> list[str]:
    """References of an HTML page that a browser would load from outside the file."""
    return sorted({found.group(0) for found in _EXTERNAL.finditer(html)})
