"""What must hold of signals, provider, backtest and report: each function returns what is wrong, in words."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from assets.backtests.plan import NoBacktest
from assets.backtests.qlib_backtest import price_panel, simulate_with_numpy
from assets.backtests.qlib_provider import daily_bars
from assets.backtests.results import BacktestRequest
from resources.qlib import QlibProvider
from resources.warehouse import Warehouse

AGREEMENT = 1e-10
COMPARED = ("gross", "cost", "net", "turnover")
# Anything that a browser would fetch: links to click on are fine.
_FETCHED = re.compile(
    r"""<(?:script|link|iframe|object|embed)\b|\bsrc\s*=\s*["'](?!data:)|url\(\s*["']?(?!data:)|@import""",
    re.IGNORECASE,
)
_WITHOUT_FORECAST = """
SELECT count(*) FROM signals s
ANTI JOIN (SELECT * FROM forecasts WHERE NOT in_sample) f USING (model, checkpoint, symbol, origin)
"""


def signal_problems(warehouse: Warehouse, signals: pd.DataFrame) -> list[str]:
    """Signals that are not finite, below a loss of everything, or without an out-of-sample forecast."""
    value = signals["value"].to_numpy(dtype=np.float64)
    bad = signals[~np.isfinite(value) | (value <= -1)]
    found = [
        f"{row['model']} expects {row['value']} of {row['symbol']} from {row['origin']}"
        for row in bad.head(3).to_dict("records")
    ]
    with warehouse.read() as connection:
        orphans = int(connection.execute(_WITHOUT_FORECAST).fetchall()[0][0])
    if orphans:
        found.append(f"{orphans} signals have no out-of-sample forecast behind them: materialise signals again")
    return found


def provider_problems(warehouse: Warehouse, provider: QlibProvider, frequency: str) -> list[str]:
    """Bars that the provider does not give back to the float32, and gaps that Qlib would trip over."""
    bars = daily_bars(warehouse, frequency)
    symbols = sorted(set(bars.symbol))
    if sorted(provider.ids) != symbols:
        return ["the provider's symbols are not those of the bars: materialise qlib_provider again"]
    column = np.searchsorted(symbols, bars.symbol.astype(str))
    day = np.searchsorted(provider.sessions, bars.session.astype("datetime64[D]"))
    found = []
    for field in ("open", "high", "low", "close", "factor"):
        panel = provider.panel(field, symbols)
        wrong = panel[day, column] != getattr(bars, field).astype(np.float32)
        if wrong.any():
            row = int(np.argmax(wrong))
            found.append(f"{field} of {bars.symbol[row]} on {bars.session[row]}: materialise qlib_provider again")
        if np.isfinite(panel).sum() != len(bars):
            found.append(f"{field} has values where there is no bar")
    return found


def accounting_problems(days: pd.DataFrame, account: float) -> list[str]:
    """Days on which net is not gross less costs, and accounts that do not grow by the net returns."""
    found = []
    apart = np.abs(days["gross"].to_numpy() - days["cost"].to_numpy() - days["net"].to_numpy())
    if (apart > AGREEMENT).any():
        row = days.iloc[int(np.argmax(apart))]
        found.append(f"{row['model']} on {row['session']:%Y-%m-%d}: net is {apart.max():.2g} off gross − cost")
    for model, own in days.groupby("model"):
        grown = account * np.cumprod(1 + own["net"].to_numpy())
        if not np.allclose(grown, own["account"], rtol=AGREEMENT, atol=0):
            found.append(f"{model}: the account does not grow by the net returns")
    return found


def largest_difference(request: BacktestRequest, days: pd.DataFrame) -> float | None:
    """The largest difference between Qlib's days and our own loop's, in returns. None: nothing was played."""
    plan = request.plan()
    if isinstance(plan, NoBacktest):
        return None
    ours = simulate_with_numpy(plan, price_panel(request.provider), request.rules)
    if not days[["model", "session"]].equals(ours[["model", "session"]]):
        return float("inf")
    return float(np.abs(days[list(COMPARED)].to_numpy() - ours[list(COMPARED)].to_numpy()).max())


def external_resources(html: str) -> list[str]:
    """What a browser would fetch from elsewhere to show this page."""
    return sorted({found.group(0) for found in _FETCHED.finditer(html)})
