"""The child process that plays every model through Qlib: `python -m assets.backtests.qlib_worker FOLDER`.

Qlib imports mlflow, replaces sys.excepthook and numpy's error state, and keeps global settings, so it lives for one
backtest in its own process. FOLDER holds request.json and scores.parquet; days.parquet comes back. After each model
a line `PROGRESS done total model` goes to stdout.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from resources.child_process import exit_with_parent

REQUEST, SCORES, DAYS = "request.json", "scores.parquet", "days.parquet"
PROGRESS = "PROGRESS "
COLUMNS = {"return": "gross", "cost": "cost", "turnover": "turnover", "account": "account"}


def run(folder: Path) -> None:
    """Play the request in `folder` and leave days.parquet there."""
    import qlib
    from qlib.backtest import get_exchange

    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    qlib.init(provider_uri=request["provider"], region="us", kernels=1, logging_level=logging.ERROR)
    scores = pd.read_parquet(folder / SCORES)
    rules = request["rules"]
    exchange = get_exchange(
        freq="day",
        start_time=pd.Timestamp(request["start"]),
        end_time=pd.Timestamp(request["end"]),
        codes=request["instruments"],
        # The next open; a price limit would look at the trading day's own close.
        deal_price="open",
        limit_threshold=None,
        open_cost=rules["open_cost"],
        close_cost=rules["close_cost"],
        min_cost=rules["min_cost"],
        # Fractions of a share: returns then do not depend on the account's size, but for `min_cost`.
        trade_unit=None,
    )
    models = sorted(scores["model"].unique())
    played = []
    for done, model in enumerate(models, start=1):
        own = scores[scores["model"] == model].set_index(["instrument", "datetime"])["score"].sort_index()
        played.append(_play(own, exchange, request).assign(model=model))
        sys.stdout.write(f"{PROGRESS}{done} {len(models)} {model}\n")
        sys.stdout.flush()
    pd.concat(played, ignore_index=True).to_parquet(folder / DAYS, index=False)


def _play(scores: pd.Series, exchange: Any, request: dict[str, Any]) -> pd.DataFrame:
    from qlib.backtest import backtest
    from qlib.backtest.executor import SimulatorExecutor
    from qlib.data import D

    rules = request["rules"]
    strategy = _settling({name: pd.Timestamp(end) for name, end in request["ends"].items()})(
        signal=_standing(scores),
        topk=rules["topk"],
        n_drop=rules["n_drop"],
        hold_thresh=rules["hold_thresh"],
        risk_degree=rules["invested"],
    )
    portfolio, _ = backtest(
        start_time=pd.Timestamp(request["start"]),
        end_time=pd.Timestamp(request["end"]),
        strategy=strategy,
        executor=SimulatorExecutor(time_per_step="day", generate_portfolio_metrics=True),
        account=rules["account"],
        # Ours is laid beside the days afterwards; without one, Qlib looks for the CSI 300.
        benchmark=pd.Series(0.0, index=pd.DatetimeIndex(D.calendar(request["start"], request["end"]))),
        exchange_kwargs={"exchange": exchange},
    )
    report, _ = portfolio["1day"]
    days = report.rename(columns=COLUMNS)[list(COLUMNS.values())].astype("float64")
    days["net"] = days["gross"] - days["cost"]
    return days.rename_axis("session").reset_index()


def _settling(ends: Mapping[str, pd.Timestamp]) -> Any:
    """TopkDropout that turns a holding into cash, at its last price, on the session after its very last bar."""
    from qlib.contrib.strategy import TopkDropoutStrategy

    class Settling(TopkDropoutStrategy):
        def generate_trade_decision(self, execute_result: Any = None) -> Any:
            today, _ = self.trade_calendar.get_step_time(self.trade_calendar.get_trade_step())
            held = self.trade_position
            for name in held.get_stock_list():
                if name in ends and today > ends[name]:
                    held.position["cash"] += held.get_stock_amount(name) * held.get_stock_price(name)
                    del held.position[name]
            return super().generate_trade_decision(execute_result)

    return Settling


def _standing(scores: pd.Series) -> Any:
    """The scores as Qlib's signal, looked up by day: its own slices the whole history anew for each."""
    from qlib.backtest.signal import Signal

    class Standing(Signal):
        by_day = {day: own.droplevel("datetime") for day, own in scores.groupby(level="datetime")}  # noqa: RUF012

        def get_signal(self, start_time: pd.Timestamp, end_time: pd.Timestamp) -> pd.Series | None:
            return self.by_day.get(start_time)

    return Standing()


if __name__ == "__main__":
    exit_with_parent()
    run(Path(sys.argv[1]))
