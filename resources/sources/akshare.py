"""Chinese A shares through akshare: unadjusted bars, and the backward-adjusted close beside them.

The forward-adjusted series (qfq) changes all earlier prices with every dividend and is never requested. The
backward-adjusted series (hfq) does not; corporate actions are derived from it, so a request that continues a series
also contains the bar before it. Volume is in lots of 100 shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from resources.errors import CandlecastError
from resources.sources.protocol import NoRowsError, Reading, Request, Wanted
from resources.sources.ranges import Pace, TransientError, plan_ranges, with_retries, write_payload

FREQUENCIES = {"1d": "daily"}
DATE, CLOSE, ADJUSTED = "日期", "收盘", "hfq_收盘"
COLUMNS = {
    "date": DATE,
    "open": "开盘",
    "high": "最高",
    "low": "最低",
    "close": CLOSE,
    "volume": "成交量",
    "amount": "成交额",
}
LOT = 100.0
# No holiday closes the exchanges for longer. After a longer halt the first action is unknown, and flagged.
BEFORE = timedelta(days=20)


def akshare_reading(reading: Reading) -> Reading:
    """How to interpret akshare's payloads."""
    return replace(reading, columns={**COLUMNS, "adj_close": ADJUSTED}, actions="source", lot=LOT)


@dataclass(frozen=True)
class AkshareSource:
    """Daily bars of A shares, from Eastmoney."""

    reading: Reading
    name: str = "akshare"
    by_range: bool = True
    first_wait: float = 2.0
    pace: Pace = field(default_factory=lambda: Pace(1.0), compare=False)

    def plan(self, wanted: Wanted) -> list[Request]:
        return plan_ranges(self.name, wanted, FREQUENCIES)

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        return []

    def fingerprint(self, request: Request) -> str | None:
        return None

    def reaches(self, payload: Path) -> date | None:
        days = pd.read_parquet(payload, columns=[DATE])[DATE]
        return date.fromisoformat(str(days.max())[:10]) if len(days) else None

    def fetch(self, request: Request, into: Path) -> str:
        raw = with_retries(lambda: self._ask(request, ""), request, self.first_wait)
        own = self._own(request, raw)
        if not own.any():
            sha256 = write_payload(pd.DataFrame(columns=list(self.reading.columns.values())), into)
            raise NoRowsError(
                f"{request.file}: Eastmoney has no bars: check the symbol (six digits) and market.start", sha256
            )
        raw = pd.concat([raw[~own].tail(1), raw[own]], ignore_index=True)
        adjusted = with_retries(lambda: self._ask(request, "hfq"), request, self.first_wait)
        if adjusted.empty:
            raise CandlecastError(f"{request.file}: Eastmoney returned bars but no adjusted bars: try again later")
        beside = adjusted[[DATE, CLOSE]].rename(columns={CLOSE: ADJUSTED})
        return write_payload(raw.merge(beside, on=DATE, how="left", validate="one_to_one"), into)

    @staticmethod
    def _own(request: Request, raw: pd.DataFrame) -> pd.Series:
        """Whether a row is in the requested range; the others precede it."""
        if raw.empty:
            return pd.Series(dtype=bool)
        return pd.to_datetime(raw[DATE]).dt.date >= (request.first or date.min)

    def _ask(self, request: Request, adjust: str) -> pd.DataFrame:
        try:
            import akshare
        except ImportError as error:
            raise CandlecastError('source "akshare" needs its client: pip install "candlecast[akshare]"') from error
        import requests

        if request.first is None or request.last is None:
            raise CandlecastError(f"{request.file}: a range is needed")
        since = request.first - BEFORE if request.continues else request.first
        self.pace.wait()
        try:
            frame = akshare.stock_zh_a_hist(
                symbol=request.asked,
                period="daily",
                start_date=f"{since:%Y%m%d}",
                end_date=f"{request.last:%Y%m%d}",
                adjust=adjust,
                timeout=30,
            )
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            # At its rate limit Eastmoney returns status 200 with an HTML page, or JSON without data.
            raise TransientError(f"{type(error).__name__}: {str(error)[:200]}") from error
        bars: pd.DataFrame = frame
        return bars
