"""Which source the settings name. Each is imported only when it is used, its client library with it."""

from __future__ import annotations

from resources.settings import Settings
from resources.sources.protocol import Reading, Source


def build_source(settings: Settings) -> Source:
    """The source that `market.source` names. Never another one.

    Raises:
        CandlecastError: its client library is not installed.
    """
    market = settings.market
    reading = Reading(market.calendar, market.frequency, dict(market.columns), market.timezone, market.date_order)
    match market.source:
        case "sample":
            from resources.sources.sample import SampleSource

            return SampleSource(reading)
        case "files":
            from resources.sources.files import FilesSource

            return FilesSource(str(market.path), settings.root, reading)
        case other:
            raise NotImplementedError(other)
