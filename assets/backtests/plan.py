"""The plan of a backtest: which score stands on which session, over which sessions, against which benchmark.

A signal dated t is known after t's close and trades at the next session's open. It stands until its model's next
origin, and never longer than its horizon. All models are played over the same sessions. A symbol whose bars end for
good is paid out at its last close: that it ends is known to its holders before, as who is a member tomorrow is. Not
here: how orders are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assets.backtests.rules import TradingRules
from assets.market.universe import DELISTED_AFTER


@dataclass(frozen=True)
class BacktestPlan:
    """What is played.

    Attributes:
        days: (days,) datetime64[D]; day 0 only decides, days 1 … trade.
        symbols: the columns, sorted by Qlib's id.
        ids: Qlib's ids of the columns, sorted.
        scores: a model's (days, symbols) ranks that stand after each day's close; NaN: no signal.
        benchmark: (days - 1,) returns of the universe, equal weights, bought and held.
        notes: what was left out of the play, in words.
        ends: (symbols,) datetime64[D], the last bar of a symbol that was delisted; NaT: none was its last.
    """

    days: np.ndarray
    symbols: tuple[str, ...]
    ids: tuple[str, ...]
    scores: Mapping[str, np.ndarray]
    benchmark: np.ndarray
    notes: tuple[str, ...]
    ends: np.ndarray

    @property
    def ended(self) -> np.ndarray:
        """Whether a symbol had its very last bar before a day. Shape (days, symbols)."""
        return self.days[:, None] > self.ends


@dataclass(frozen=True)
class NoBacktest:
    """Why there is nothing to play, in words that say what to do."""

    reason: str


@dataclass(frozen=True)
class PricePanel:
    """Adjusted opens and closes, (sessions, symbols), NaN where there is no bar; columns sorted by Qlib's id."""

    sessions: np.ndarray
    symbols: tuple[str, ...]
    ids: tuple[str, ...]
    open: np.ndarray
    close: np.ndarray

    @property
    def ends(self) -> np.ndarray:
        """The last session of every symbol that was delisted, NaT of the others. Shape (symbols,), datetime64[D].

        As in the universe, one that has had no bar for less than `DELISTED_AFTER` sessions may only be suspended.
        """
        there = np.isfinite(self.close)
        last = len(there) - 1 - np.argmax(there[::-1], axis=0)
        gone = there.any(axis=0) & (last < len(there) - DELISTED_AFTER)
        return np.where(gone, self.sessions[last], np.datetime64("NaT", "D"))


def plan_backtest(
    signals: pd.DataFrame, prices: PricePanel, step: int, rules: TradingRules, members: np.ndarray | None = None
) -> BacktestPlan | NoBacktest:
    """Lay signals (columns model, symbol, origin, value) out over the sessions.

    Origins with fewer than topk + n_drop symbols decide nothing: positions are held.

    Args:
        members: (sessions, symbols), whether a symbol is in the universe on a session; none: always.
    """
    if signals.empty:
        return NoBacktest("No model has out-of-sample signals to rank symbols by, so there is no backtest.")
    usable = signals.copy()
    usable["symbols"] = usable.groupby(["model", "origin"])["symbol"].transform("size")
    widest = int(usable["symbols"].max())
    if widest < rules.symbols_needed:
        return NoBacktest(
            f"The backtest holds topk = {rules.topk} symbols and exchanges n_drop = {rules.n_drop} a day, so it "
            f"needs {rules.symbols_needed} symbols with a signal on one origin; there are {widest}. "
            "Add symbols, or lower backtest.topk."
        )
    narrow = usable[usable["symbols"] < rules.symbols_needed]
    usable = usable[usable["symbols"] >= rules.symbols_needed]
    members = np.ones(prices.close.shape, dtype=bool) if members is None else members
    signalled = {str(model): _scores(own, prices, step) for model, own in usable.groupby("model")}
    listed = members & ~(prices.sessions[:, None] > prices.ends)
    scores = {model: _of_members(score, listed, rules) for model, score in signalled.items()}
    emptied = [model for model, score in scores.items() if not len(_alive(score))]
    if emptied:
        return NoBacktest(
            f"Of {', '.join(emptied)} no signal stands for {rules.symbols_needed} members of the universe on the "
            "session after it, so there is no backtest: forecast more origins."
        )
    first = max(_alive(score)[0] for score in scores.values())
    last = min(_alive(score)[-1] for score in scores.values()) + 1
    last = min(last, len(prices.sessions) - 1)
    if last - first < 2:
        return NoBacktest(
            "The models' signals have fewer than two trading sessions in common, so there is no backtest: "
            "forecast more origins."
        )
    window = slice(first, last + 1)
    scores = {model: score[window] for model, score in scores.items()}
    return BacktestPlan(
        days=prices.sessions[window],
        symbols=prices.symbols,
        ids=prices.ids,
        scores=scores,
        benchmark=_benchmark(scores, prices.open[window], _filled(prices.close)[window], members[window]),
        notes=(*_notes(narrow, rules), *_thinned(signalled, scores, window, rules), *_ended(scores, prices, window)),
        ends=prices.ends,
    )


def _scores(signals: pd.DataFrame, prices: PricePanel, step: int) -> np.ndarray:
    """Ranks, 1 the lowest; equal signals rank by symbol, so that no sort decides. Shape (sessions, symbols)."""
    table = signals.pivot(index="origin", columns="symbol", values="value").reindex(columns=list(prices.symbols))
    ranks = table.rank(axis=1, method="first").to_numpy(dtype=np.float64)
    origins = np.searchsorted(prices.sessions, table.index.to_numpy().astype("datetime64[D]"))
    until = np.minimum(np.r_[origins[1:], len(prices.sessions)], origins + step)
    found = np.full((len(prices.sessions), len(prices.symbols)), np.nan)
    for origin, end, rank in zip(origins, until, ranks, strict=True):
        found[origin:end] = rank
    return found


def _of_members(score: np.ndarray, members: np.ndarray, rules: TradingRules) -> np.ndarray:
    """The scores of symbols that are members on the session that they would trade on, the next one.

    Who is a member tomorrow is announced before. Evenings with fewer than topk + n_drop of them decide nothing.
    """
    found = np.where(np.r_[members[1:], members[-1:]], score, np.nan)
    found[np.isfinite(found).sum(axis=1) < rules.symbols_needed] = np.nan
    return found


def _benchmark(
    scores: Mapping[str, np.ndarray], opens: np.ndarray, closes: np.ndarray, members: np.ndarray
) -> np.ndarray:
    """Equal weights at the first open and whenever the universe changes, at the close before; else held; no costs.

    A day's universe is the members that any model had a signal for the evening before; without signals, those held
    that are still members. A symbol without a bar returns 0.
    """
    universe = np.any([np.isfinite(score) for score in scores.values()], axis=0)
    found = np.empty(len(closes) - 1)
    held = universe[0] & np.isfinite(opens[1]) & np.isfinite(closes[1])
    # Nobody of the universe trades on the first session: nothing is held until somebody does.
    weights = held / max(held.sum(), 1)
    for day in range(1, len(closes)):
        wanted = (universe[day - 1] if universe[day - 1].any() else held) & members[day] & np.isfinite(closes[day - 1])
        if day > 1 and wanted.any() and (wanted != held).any():
            held, weights = wanted, wanted / wanted.sum()
        before = opens[day] if day == 1 else closes[day - 1]
        growth = np.where(held, closes[day] / np.where(held, before, 1.0), 1.0)
        found[day - 1] = weights @ growth - 1 if held.any() else 0.0
        if held.any():
            weights = weights * growth / (weights @ growth)
    return found


def _alive(score: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isfinite(score).any(axis=1))


def _filled(closes: np.ndarray) -> np.ndarray:
    return pd.DataFrame(closes).ffill().to_numpy()


def _thinned(
    signalled: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray], window: slice, rules: TradingRules
) -> list[str]:
    lost = {model: len(_alive(signalled[model][window])) - len(_alive(scores[model])) for model in scores}
    return [
        f"{model}: on {count} evenings fewer than {rules.symbols_needed} symbols with a signal were to be members the "
        "next session; they decided nothing, and positions were held."
        for model, count in lost.items()
        if count
    ]


def _ended(scores: Mapping[str, np.ndarray], prices: PricePanel, window: slice) -> list[str]:
    """The symbols that could be bought and were delisted before the last day."""
    ranked = np.any([np.isfinite(score).any(axis=0) for score in scores.values()], axis=0)
    gone = np.flatnonzero(ranked & (prices.ends < prices.sessions[window][-1]))
    if not len(gone):
        return []
    named = ", ".join(f"{prices.symbols[symbol]} ({prices.ends[symbol]})" for symbol in gone)
    return [
        f"Bars that end for good within the backtest: {named}. A holding of theirs became cash the session after, at "
        "the last close and without costs; what a delisting really paid may be less."
    ]


def _notes(narrow: pd.DataFrame, rules: TradingRules) -> tuple[str, ...]:
    counts = narrow.groupby("model")["origin"].nunique()
    return tuple(
        f"{model}: {count} origins had fewer than {rules.symbols_needed} symbols with a signal; "
        "they decided nothing, and positions were held."
        for model, count in counts.items()
    )
