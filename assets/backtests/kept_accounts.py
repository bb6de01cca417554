"""Stored accounts of earlier backtests, from which Qlib resumes.

A result is stored with the accounts after its last session, under the digest of all inputs up to that session: prices,
states and scores day by day, rules and versions. A later backtest resumes from the newest accounts whose digest is that
of one of its own days, and is simulated over all sessions if there are none. Not here: the simulation (qlib_backtest),
and the check that compares every session with our own loop (checks).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from assets.backtests.plan import BacktestPlan
from assets.backtests.prices import PricePanel
from assets.backtests.qlib_worker import Account
from assets.backtests.rules import TradingRules
from resources.integrity import keep_if_intact
from resources.layout import Home
from resources.publish import digest_of

DAYS_FILE = "days.parquet"
_PREFIX, _SUFFIX = "accounts-", ".json"


@dataclass(frozen=True)
class KeptBacktest:
    """The part of an earlier result that holds for a plan.

    Attributes:
        day: the last day of the plan that it covers.
        days: the daily results up to it, of all models.
        accounts: the account of each model after it.
    """

    day: int
    days: pd.DataFrame
    accounts: dict[str, Account]


def input_digests(plan: BacktestPlan, prices: PricePanel, rules: TradingRules, versions: str) -> list[str]:
    """The digests of everything that determines the results up to each day of a plan: (days,).

    Args:
        versions: the digest of the versions of the code.
    """
    window = np.searchsorted(prices.sessions, plan.days)
    panels = [panel[window] for panel in (prices.open, prices.close, prices.volume, prices.factor)]
    states = np.zeros(plan.ended.shape, dtype=np.int8) if plan.states is None else plan.states
    dated = plan.days.astype("datetime64[D]").astype(np.int64)[:, None]
    parts, nothing = (dated, *panels, states, plan.ended), np.full(len(plan.ids), np.nan)
    constant = {"versions": versions, "rules": rules.as_dict(), "ids": plan.ids, "models": list(plan.scores)}
    total = hashlib.sha256(digest_of(constant).encode())
    digests = []
    for day in range(len(plan.days)):
        # A day is traded by the scores of the day before.
        scores = (score[day - 1] if day else nothing for score in plan.scores.values())
        for row in (*(part[day] for part in parts), *scores):
            total.update(row.tobytes())
        digests.append(total.copy().hexdigest())
    return digests


def newest_kept(home: Home, plan: BacktestPlan, digests: list[str]) -> KeptBacktest | None:
    """The stored result that covers most days of a plan with these digests of its inputs; None: there is none."""
    stored = {file.name: file for file in home.backtests.glob(f"*/{_PREFIX}*{_SUFFIX}")}
    for day in range(len(digests) - 1, 0, -1):
        file = stored.get(_name(digests[day]))
        if file is not None and keep_if_intact(file.parent, home.root):
            days = pd.read_parquet(file.parent / DAYS_FILE)
            until = days["session"] <= plan.days[day].astype("datetime64[us]")
            return KeptBacktest(day, days[until], json.loads(file.read_text(encoding="utf-8")))
    return None


def write_accounts(folder: Path, digest: str, accounts: dict[str, Account]) -> None:
    """Store accounts beside their result, under the digest of the inputs up to its last day."""
    (folder / _name(digest)).write_text(json.dumps(accounts), encoding="utf-8")


def _name(digest: str) -> str:
    return f"{_PREFIX}{digest}{_SUFFIX}"
