"""Yahoo Finance through yfinance: bars, dividends and splits.

Yahoo always adjusts prices, volumes and dividends for later splits. A request therefore extends to today, so that its
payload contains those splits, and the contract reverses the adjustment. Yahoo's adjusted close changes with every
dividend and is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from resources.errors import CandlecastError
from resources.sources.protocol import NoRowsError, Reading, Request, Wanted
from resources.sources.ranges import Pace, TransientError, plan_ranges, with_retries, write_payload

FREQUENCIES = {"1d": "1d", "1h": "1h", "30min": "30m", "15min": "15m", "5min": "5m", "1min": "1m"}
COLUMNS = {"date": "Date", "open": "Open", "high": "High", "low": "Low", "close": "Close", "volume": "Volume"}


def yahoo_reading(reading: Reading) -> Reading:
    """How to interpret Yahoo's payloads."""
    columns = {**COLUMNS, "dividend": "Dividends", "split": "Stock Splits"}
    return replace(reading, columns=columns, basis="split-adjusted", actions="source")


@dataclass(frozen=True)
class YahooSource:
    """Bars from Yahoo. `first_wait`: seconds before the first retry."""

    reading: Reading
    name: str = "yahoo"
    by_range: bool = True
    first_wait: float = 2.0
    pace: Pace = field(default_factory=lambda: Pace(0.5), compare=False)

    def plan(self, wanted: Wanted) -> list[Request]:
        return plan_ranges(self.name, wanted, FREQUENCIES)

    def vanished(self, held: Sequence[Request]) -> list[Request]:
        return []

    def fingerprint(self, request: Request) -> str | None:
        return None

    def reaches(self, payload: Path) -> date | None:
        stamps = pd.read_parquet(payload, columns=["Date"])["Date"]
        return date.fromisoformat(str(stamps.max())[:10]) if len(stamps) else None

    def fetch(self, request: Request, into: Path) -> str:
        frame = with_retries(lambda: self._ask(request), request, self.first_wait)
        sha256 = write_payload(frame, into)
        if frame.empty:
            raise NoRowsError(
                f"{request.file}: Yahoo has no bars: check the symbol and market.start, and how far back its "
                f"{self.reading.frequency} bars reach",
                sha256,
            )
        return sha256

    def _ask(self, request: Request) -> pd.DataFrame:
        yfinance = _client()
        from curl_cffi.requests.exceptions import RequestException
        from yfinance import exceptions

        self.pace.wait()
        try:
            frame = yfinance.Ticker(request.asked).history(
                start=str(request.first),
                end=str(datetime.now(UTC).date() + timedelta(days=1)),
                interval=FREQUENCIES[self.reading.frequency],
                auto_adjust=False,
                back_adjust=False,
                repair=False,
                actions=True,
            )
        except (exceptions.YFTzMissingError, exceptions.YFPricesMissingError):
            return pd.DataFrame(columns=list(self.reading.columns.values()))
        except exceptions.YFInvalidPeriodError as error:
            raise CandlecastError(
                f"{request.file}: Yahoo has no bars: {error}. Check the symbol, and how far back its "
                f"{self.reading.frequency} bars reach"
            ) from error
        except (exceptions.YFRateLimitError, exceptions.YFDataException, RequestException, ValueError) as error:
            # yfinance caches the response to its time zone request, a malformed one as well.
            yfinance.data.YfData.cache_get.cache_clear()
            raise TransientError(f"{type(error).__name__}: {str(error)[:200]}") from error
        if frame.empty:
            return pd.DataFrame(columns=list(self.reading.columns.values()))
        frame.insert(0, "Date", [stamp.isoformat() for stamp in frame.index])
        bars: pd.DataFrame = frame.reset_index(drop=True)
        return bars


def _client() -> Any:
    try:
        import yfinance
    except ImportError as error:
        raise CandlecastError('source "yahoo" needs its client: pip install "candlecast[yahoo]"') from error
    yfinance.config.debug.hide_exceptions = False
    return yfinance
