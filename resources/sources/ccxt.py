"""Crypto exchanges through ccxt: unadjusted candles, around the clock.

Pages are joined without gap or overlap: a page begins one candle after the last candle of the previous page. The
incomplete newest candle is dropped. BTC/USDT is stored as BTC-USDT.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from datetime import time as clock
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from resources.errors import CandlecastError
from resources.sources.protocol import NoRowsError, Reading, Request, Wanted
from resources.sources.ranges import TransientError, plan_ranges, with_retries, write_payload

FREQUENCIES = {"1d": "1d", "4h": "4h", "1h": "1h", "30min": "30m", "15min": "15m", "5min": "5m", "1min": "1m"}
COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
DAY_MS = 86_400_000
PAGE = 500


def ccxt_reading(reading: Reading) -> Reading:
    """How to interpret ccxt's payloads."""
    return replace(reading, columns={"date": "timestamp"}, timezone="UTC", actions="source")


@dataclass(frozen=True)
class CcxtSource:
    """Candles of one exchange.

    Args:
        exchange: its ccxt id.
        options: further options of the ccxt client.
    """

    exchange: str
    reading: Reading
    options: dict[str, Any] = field(default_factory=dict)
    name: str = "ccxt"
    by_range: bool = True
    first_wait: float = 1.0

    def plan(self, wanted: Wanted) -> list[Request]:
        return plan_ranges(self.name, wanted, FREQUENCIES)

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        return []

    def fingerprint(self, request: Request) -> str | None:
        return None

    def reaches(self, payload: Path) -> date | None:
        stamps = pd.read_parquet(payload, columns=["timestamp"])["timestamp"]
        return datetime.fromtimestamp(int(stamps.max()) / 1000, UTC).date() if len(stamps) else None

    def fetch(self, request: Request, into: Path) -> str:
        if request.first is None or request.last is None:
            raise CandlecastError(f"{request.file}: a range is needed")
        client = self._client()
        timeframe = FREQUENCIES[self.reading.frequency]
        step = client.parse_timeframe(timeframe) * 1000
        since = _ms(request.first)
        end = min(_ms(request.last) + DAY_MS, _now_ms() - step + 1)
        candles: list[list[float]] = []
        while since < end:
            ask = partial(self._page, client, request, timeframe, since)
            page = with_retries(ask, request, self.first_wait)
            fresh = [candle for candle in page if since <= candle[0] < end]
            candles += fresh
            # Several exchanges return a fixed time window: an empty page is a halt, not the end of the series.
            since = int(fresh[-1][0]) + step if fresh else since + PAGE * step
        sha256 = write_payload(pd.DataFrame(candles, columns=list(COLUMNS)), into)
        if not candles:
            raise NoRowsError(
                f"{request.file}: {self.exchange} has no candles: check the symbol and market.start", sha256
            )
        return sha256

    def _page(self, client: Any, request: Request, timeframe: str, since: int) -> list[list[float]]:
        import ccxt

        try:
            page = client.fetch_ohlcv(request.asked, timeframe, since=since, limit=PAGE)
        except ccxt.BadSymbol as error:
            raise CandlecastError(
                f"{request.file}: {self.exchange} has no symbol {request.asked}: write symbols as BTC/USDT"
            ) from error
        except (ccxt.NetworkError, ccxt.BadResponse, ccxt.NullResponse) as error:
            raise TransientError(f"{type(error).__name__}: {str(error)[:200]}") from error
        except ccxt.BaseError as error:
            raise CandlecastError(f"{request.file}: {self.exchange} returned an error: {str(error)[:200]}") from error
        return sorted(page, key=lambda candle: candle[0])

    def _client(self) -> Any:
        try:
            import ccxt
        except ImportError as error:
            raise CandlecastError('source "ccxt" needs its client: pip install "candlecast[ccxt]"') from error
        if self.exchange not in ccxt.exchanges:
            raise CandlecastError(f"market.exchange = {self.exchange!r}: not an exchange of ccxt")
        return getattr(ccxt, self.exchange)({"enableRateLimit": True, **self.options})


def _ms(day: date) -> int:
    return int(datetime.combine(day, clock(), UTC).timestamp() * 1000)


def _now_ms() -> int:
    return int(time.time() * 1000)
