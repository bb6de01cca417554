"""The source that the settings name. A source and its client library are imported only if they are used."""

from __future__ import annotations

from resources.settings import MarketSettings, Settings
from resources.sources.protocol import Reading, Source


def reading_of(market: MarketSettings) -> Reading:
    """How the settings say to interpret payloads."""
    return Reading(
        market.calendar,
        market.frequency,
        dict(market.columns),
        market.timezone,
        market.date_order,
        stamp=market.stamp,
        adjusted=market.adjusted,
        symbol_from=market.symbol_from,
        series=market.series,
        header=market.header,
        scale={str(name): factor for name, factor in market.scale.items()},
        resample=market.resample,
    )


def build_source(settings: Settings) -> Source:
    """The source named by `market.source`. Its client library is imported with the first request."""
    market = settings.market
    reading = reading_of(market)
    match market.source:
        case "sample":
            from resources.sources.sample import SampleSource

            return SampleSource(reading)
        case "files":
            from resources.sources.files import FilesSource

            return FilesSource(str(market.path), settings.root, reading)
        case "yahoo":
            from resources.sources.yahoo import YahooSource, yahoo_reading

            return YahooSource(yahoo_reading(reading))
        case "akshare":
            from resources.sources.akshare import AkshareSource, akshare_reading

            return AkshareSource(akshare_reading(reading))
        case "ccxt":
            from resources.sources.ccxt import CcxtSource, ccxt_reading

            return CcxtSource(market.exchange, ccxt_reading(reading))
        case "qlib":
            from resources.sources.qlib import QlibSource, qlib_reading

            return QlibSource(settings.root / str(market.path), qlib_reading(reading))
