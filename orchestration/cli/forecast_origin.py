"""What one origin's forecasts say, and whether there is anything to forecast from it.

Not here: how forecasts are made, or which sessions there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pandas as pd

from assets.market.universe import stored_symbol, wanted_symbols
from resources.calendar import TradingCalendar
from resources.errors import CandlecastError
from resources.settings import Settings
from resources.warehouse import Warehouse

_BARS = """
SELECT symbol, count(*) AS bars, max(ts) = $origin AS here
FROM bars
WHERE frequency = $frequency AND ts <= $origin AND ($symbols IS NULL OR list_contains($symbols, symbol))
GROUP BY symbol ORDER BY symbol
"""
_FORECASTS = """
SELECT model, checkpoint, symbol, origin, step, target_ts, level, value, in_sample
FROM forecast_quantiles
WHERE field = 'close' AND origin = $origin AND level IN (0.05, 0.5, 0.95)
  AND list_contains($used, model || ' ' || checkpoint)
  AND ($symbols IS NULL OR list_contains($symbols, symbol))
  AND step IN (1, $horizon)
ORDER BY symbol, model, step, level
"""
ROW = ["symbol", "model", "checkpoint", "step", "target_ts", "in_sample"]


@dataclass(frozen=True)
class Origin:
    """The last bar of one session, to forecast from.

    Attributes:
        asked: the symbols that a person named, as the warehouse writes them; empty: none were.
        wanted: the symbols of market.symbols; none: all that there are.
    """

    session: date
    stamp: np.datetime64
    asked: list[str]
    wanted: list[str] | None

    @classmethod
    def of(cls, session: date, asked: Sequence[str], settings: Settings, calendar: TradingCalendar) -> "Origin":
        """The origin of a session.

        Raises:
            CandlecastError: a symbol that was asked for is not one of market.symbols.
        """
        wanted = wanted_symbols(settings)
        named = list(dict.fromkeys(stored_symbol(symbol) for symbol in asked))
        strange = [symbol for symbol in named if wanted is not None and symbol not in wanted]
        if strange:
            names = ", ".join(wanted or [])
            raise CandlecastError(f"market.symbols does not name {', '.join(strange)}; it names {names}")
        return cls(session, calendar.stamps(session, session)[-1].to_datetime64(), named, wanted)

    def refuse_without_bars(self, warehouse: Warehouse, frequency: str, lookback: int) -> None:
        """Say before anything is trained that nothing could be forecast.

        Raises:
            CandlecastError: there is no bar at the origin of a symbol that was asked for, or too few before it.
        """
        found = warehouse.frame(
            _BARS, {"origin": self._moment, "frequency": frequency, "symbols": self.wanted}
        ).set_index("symbol")
        here = found[found["here"]]
        lacking = [symbol for symbol in self.asked if symbol not in here.index]
        if here.empty or lacking:
            named = ", ".join(lacking) or "any symbol"
            raise CandlecastError(
                f"no bar of {named} on {self.session}; there are: {', '.join(here.index) or 'none'}. Choose another "
                "--origin or other --symbols, or bring its bars"
            )
        most = here.loc[self.asked or here.index, "bars"].max()
        if most < lookback:
            raise CandlecastError(
                f"nothing to forecast from {self.session}: windows.lookback_window wants {lookback} bars up to it, "
                f"there are {most} at most. Choose a later --origin, or bring earlier bars"
            )

    def quantiles(self, warehouse: Warehouse, used: Mapping[str, str], horizon: int) -> pd.DataFrame:
        """Quantiles of the close at the first and the last step: one row a symbol, a model and a step.

        Args:
            used: the checkpoint of each model whose forecasts are shown.
        """
        pairs = [f"{model} {checkpoint}" for model, checkpoint in used.items()]
        parameters: dict[str, object] = {
            "origin": self._moment,
            "symbols": self.asked or self.wanted,
            "used": pairs,
            "horizon": horizon,
        }
        found = warehouse.frame(_FORECASTS, parameters)
        wide = found.pivot(index=ROW, columns="level", values="value").reset_index()
        wide.columns = [str(column) for column in wide.columns]
        return wide

    @property
    def _moment(self) -> datetime:
        return self.stamp.astype("datetime64[us]").item()
