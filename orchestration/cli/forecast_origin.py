"""The origin of `candlecast forecast`: its symbols, whether it has enough bars, and its forecasts.

Not here: how forecasts are made, or which sessions there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pandas as pd

from assets.forecasting.filters import UsedCheckpoints, checkpoint_pairs
from assets.market.selection import OWN_BARS, stored_symbol, wanted_symbols
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.sql import load_sql
from resources.warehouse import Warehouse

INDEX = ["symbol", "model", "checkpoint", "step", "target_ts", "in_sample"]
_FORECASTS = """
SELECT model, symbol, in_sample FROM forecasts
WHERE origin = $origin AND list_contains($used, model || ' ' || checkpoint)
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
"""


@dataclass(frozen=True)
class ForecastOrigin:
    """The last bar of one session, from which a forecast starts.

    Attributes:
        requested: the symbols of --symbols, as stored in the warehouse; empty: all.
        allowed: the symbols of market.symbols; None: all.
    """

    session: date
    timestamp: np.datetime64
    requested: list[str]
    allowed: list[str] | None

    @classmethod
    def of(
        cls, session: date, requested: Sequence[str], settings: Settings, calendar: TradingCalendar
    ) -> "ForecastOrigin":
        """The origin of a session.

        Raises:
            CandlecastError: a requested symbol is not one of market.symbols.
        """
        allowed = wanted_symbols(settings)
        stored = list(dict.fromkeys(stored_symbol(symbol) for symbol in requested))
        unknown = [symbol for symbol in stored if allowed is not None and symbol not in allowed]
        if unknown:
            names = ", ".join(allowed or [])
            raise CandlecastError(f"--symbols {', '.join(unknown)}: not in market.symbols, which are {names}")
        return cls(session, calendar.stamps(session, session)[-1].to_datetime64(), stored, allowed)

    def require_bars(
        self, warehouse: Warehouse, frequency: str, lookback: int, sources: Sequence[str] | None = None
    ) -> None:
        """Check before any training that the origin can be forecast.

        Args:
            sources: as `selection.source_filter` returns them; None: all.

        Raises:
            CandlecastError: a requested symbol has no bar at the origin, or too few before it.
        """
        sql = load_sql(__package__, "bars_at_origin.sql").format(own_bars=OWN_BARS)
        parameters = {"origin": self._moment, "frequency": frequency, "symbols": self.allowed, "sources": sources}
        found = warehouse.frame(sql, parameters).set_index("symbol")
        available = found[found["at_origin"]]
        missing = [symbol for symbol in self.requested if symbol not in available.index]
        if available.empty or missing:
            raise CandlecastError(
                f"no bar of {', '.join(missing) or 'any symbol'} on {self.session}; symbols with a bar: "
                f"{', '.join(available.index) or 'none'}. Choose another --origin or --symbols, or ingest the bars"
            )
        most = available.loc[self.requested or available.index, "bars"].max()
        if most < lookback:
            raise CandlecastError(
                f"too few bars to forecast from {self.session}: windows.lookback_window is {lookback}, and no symbol "
                f"has more than {most} bars up to it. Choose a later --origin, or ingest earlier bars"
            )

    def quantiles(
        self,
        warehouse: Warehouse,
        used: UsedCheckpoints,
        index: Sequence[str] = INDEX,
        fields: Sequence[str] | None = None,
        steps: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """The stored quantiles: one row per symbol, model, step and field, one column per level.

        Args:
            used: the checkpoints of each model whose forecasts are returned.
            index: the columns before those of the levels.
            fields, steps: only these; None: all.
        """
        parameters: dict[str, object] = {**self._parameters(used), "fields": fields, "steps": steps}
        found = warehouse.frame(load_sql(__package__, "quantiles_at_origin.sql"), parameters)
        wide = found.pivot(index=list(index), columns="level", values="value").reset_index()
        wide.columns = [str(column) for column in wide.columns]
        return wide

    def forecast_symbols(self, warehouse: Warehouse, used: UsedCheckpoints) -> list[str]:
        """The symbols that have a forecast from this origin, in alphabetical order."""
        return sorted(self._forecasts(warehouse, used)["symbol"].unique())

    def in_sample(self, warehouse: Warehouse, used: UsedCheckpoints) -> dict[str, bool]:
        """Of each model with a forecast from this origin: whether it is in-sample."""
        found = self._forecasts(warehouse, used)
        return dict(zip(found["model"], found["in_sample"].astype(bool), strict=True))

    def _forecasts(self, warehouse: Warehouse, used: UsedCheckpoints) -> pd.DataFrame:
        return warehouse.frame(_FORECASTS, self._parameters(used))

    def _parameters(self, used: UsedCheckpoints) -> dict[str, object]:
        return {
            "origin": self._moment,
            "symbols": self.requested or self.allowed,
            "used": [f"{model} {checkpoint}" for model, checkpoint in checkpoint_pairs(used)],
        }

    @property
    def _moment(self) -> datetime:
        moment: datetime = self.timestamp.astype("datetime64[us]").item()
        return moment
