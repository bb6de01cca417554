"""The parts that one set of settings names: home folder, warehouse, checkpoints, calendar and source.

The one resource of every asset, check, schedule and sensor. Not here: how the settings are found (resources.settings)
and how Dagster shows them (orchestration.resources). A part is imported and created when it is first used, so that
loading the definitions costs none of them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from resources.layout import Home
from resources.settings import Settings

if TYPE_CHECKING:
    from datetime import date

    from resources.calendar import TradingCalendar
    from resources.checkpoints import CheckpointStore
    from resources.sources.protocol import Source
    from resources.warehouse import Warehouse


class Candlecast:
    """Settings and what they name.

    Args:
        settings: of one profile.
        warehouse, checkpoints, source: instead of those that the settings name.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        warehouse: Warehouse | None = None,
        checkpoints: CheckpointStore | None = None,
        source: Source | None = None,
    ) -> None:
        self.settings = settings
        given = {"warehouse": warehouse, "checkpoints": checkpoints, "source": source}
        # A value in the instance's dictionary takes precedence over the cached property of that name.
        self.__dict__ |= {name: part for name, part in given.items() if part is not None}

    def at_vintage(self, vintage: date | None) -> Candlecast:
        """The same home with the settings and the checkpoints in use of one vintage; none: unchanged."""
        if vintage is None:
            return self
        from resources.vintages import at_vintage

        settings = at_vintage(self.settings, vintage)
        return Candlecast(settings, warehouse=self.warehouse, checkpoints=self.checkpoints.at(vintage))

    @cached_property
    def home(self) -> Home:
        return Home(self.settings.home)

    @cached_property
    def warehouse(self) -> Warehouse:
        from resources.warehouse import Warehouse

        return Warehouse.of(self.settings)

    @cached_property
    def checkpoints(self) -> CheckpointStore:
        from resources.checkpoints import CheckpointStore

        return CheckpointStore(self.home)

    @cached_property
    def calendar(self) -> TradingCalendar:
        from resources.calendar import TradingCalendar

        # A reader creates no home.
        home = self.home if self.home.root.is_dir() else None
        return TradingCalendar(self.settings.market.calendar, self.settings.market.frequency, home)

    @cached_property
    def source(self) -> Source:
        from resources.sources.registry import build_source

        return build_source(self.settings)
