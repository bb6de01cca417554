"""The child process that runs Qlib's backtest for every model: `python -m assets.backtests.qlib_worker FOLDER`.

Qlib imports mlflow, replaces sys.excepthook and numpy's error state, and keeps global settings, so it runs in
a process of its own. FOLDER holds request.json and scores.parquet; the worker writes days.parquet there and, after each
model, a line `PROGRESS done total model` to stdout.
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
    """Run the request in `folder` and write days.parquet there."""
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
        # The next open. A price limit would use the close of the trading day: look-ahead.
        deal_price="open",
        limit_threshold=None,
        open_cost=rules["open_cost"],
        close_cost=rules["close_cost"],
        min_cost=rules["min_cost"],
        # Fractional shares: returns do not depend on the size of the account, except through `min_cost`.
        trade_unit=None,
    )
    models = sorted(scores["model"].unique())
    frames = []
    for done, model in enumerate(models, start=1):
        own = scores[scores["model"] == model].set_index(["instrument", "datetime"])["score"].sort_index()
        frames.append(_simulate(own, exchange, request).assign(model=model))
        sys.stdout.write(f"{PROGRESS}{done} {len(models)} {model}\n")
        sys.stdout.flush()
    pd.concat(frames, ignore_index=True).to_parquet(folder / DAYS, index=False)


def _simulate(scores: pd.Series, exchange: Any, request: dict[str, Any]) -> pd.DataFrame:
    from qlib.backtest import backtest
    from qlib.backtest.executor import SimulatorExecutor
    from qlib.data import D

    rules = request["rules"]
    strategy = _topk_dropout_class({name: pd.Timestamp(end) for name, end in request["ends"].items()})(
        signal=_fixed_signal(scores),
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
        # The benchmark is added later; without one, Qlib looks for the CSI 300.
        benchmark=pd.Series(0.0, index=pd.DatetimeIndex(D.calendar(request["start"], request["end"]))),
        exchange_kwargs={"exchange": exchange},
    )
    report, _ = portfolio["1day"]
    days: pd.DataFrame = report.rename(columns=COLUMNS)[list(COLUMNS.values())].astype("float64")
    days["net"] = days["gross"] - days["cost"]
    return days.rename_axis("session").reset_index()


def _topk_dropout_class(ends: Mapping[str, pd.Timestamp]) -> Any:
    """TopkDropout that converts a delisted holding to cash, at its last price, on the session after its last bar."""
    from qlib.contrib.strategy import TopkDropoutStrategy

    class SettlingTopkDropout(TopkDropoutStrategy):  # type: ignore[misc]
        def generate_trade_decision(self, execute_result: Any = None) -> Any:
            today, _ = self.trade_calendar.get_step_time(self.trade_calendar.get_trade_step())
            held = self.trade_position
            for name in held.get_stock_list():
                if name in ends and today > ends[name]:
                    held.position["cash"] += held.get_stock_amount(name) * held.get_stock_price(name)
                    del held.position[name]
            return super().generate_trade_decision(execute_result)

    return SettlingTopkDropout


def _fixed_signal(scores: pd.Series) -> Any:
    """The scores as a Qlib signal, indexed by day. Qlib's own class slices the whole history for every day."""
    from qlib.backtest.signal import Signal

    by_day = {day: scores_of_day.droplevel("datetime") for day, scores_of_day in scores.groupby(level="datetime")}

    class FixedSignal(Signal):  # type: ignore[misc]
        def get_signal(self, start_time: pd.Timestamp, end_time: pd.Timestamp) -> pd.Series | None:
            return by_day.get(start_time)

    return FixedSignal()


if __name__ == "__main__":
    exit_with_parent()
    run(Path(sys.argv[1]))
