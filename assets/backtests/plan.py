"""The plan of a backtest: the sessions, the scores in force on each, and the benchmark.

A signal dated t is known after t's close and trades at the next session's open. It stays in force until the next
origin of its model, at most for its horizon. All models are simulated over the same sessions. A delisted symbol is
settled at its last close: a delisting is announced in advance, and so is membership of the next session. Not here: how
orders are made (topk_dropout, qlib_worker), and which are refused (tradability).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from assets.backtests.prices import PricePanel
from assets.backtests.rules import TradingRules
from assets.backtests.tradability import session_states


@dataclass(frozen=True)
class BacktestPlan:
    """The input of a simulation.

    Attributes:
        days: (days,) datetime64[D]; day 0 only has scores, days 1 … trade.
        symbols: the columns, sorted by Qlib's id.
        ids: Qlib's ids of the columns, sorted.
        scores: (days, symbols) ranks per model, in force after the close of each day; NaN: no signal.
        benchmark: (days - 1,) returns of an equal-weight, buy-and-hold portfolio of the universe.
        notes: what was left out, as text.
        ends: (symbols,) datetime64[D], the last bar of a delisted symbol; NaT: not delisted.
        states: (days, symbols), the `State` of each session; None: all sessions with a bar are open.
    """

    days: np.ndarray
    symbols: tuple[str, ...]
    ids: tuple[str, ...]
    scores: Mapping[str, np.ndarray]
    benchmark: np.ndarray
    notes: tuple[str, ...]
    ends: np.ndarray
    states: np.ndarray | None = None

    @property
    def ended(self) -> np.ndarray:
        """Whether a symbol was delisted before a day. Shape (days, symbols)."""
        return self.days[:, None] > self.ends

    def span(self, first: int, last: int) -> BacktestPlan:
        """The plan of some days, both ends included; the first of them becomes day 0."""
        return replace(
            self,
            days=self.days[first : last + 1],
            scores={model: score[first : last + 1] for model, score in self.scores.items()},
            benchmark=self.benchmark[first:last],
            states=None if self.states is None else self.states[first : last + 1],
        )


@dataclass(frozen=True)
class NoBacktest:
    """The reason why there is no backtest, and what to do."""

    reason: str


def plan_backtest(
    signals: pd.DataFrame, prices: PricePanel, step: int, rules: TradingRules, members: np.ndarray | None = None
) -> BacktestPlan | NoBacktest:
    """The plan for all models of `signals`, or the reason why there is none.

    Origins with fewer than topk + n_drop symbols have no scores: positions are held.

    Args:
        signals: columns model, symbol, origin, value.
        step: the horizon of the signals in bars.
        members: (sessions, symbols), whether a symbol is in the universe on a session; None: always.
    """
    if signals.empty:
        return NoBacktest("No backtest: no model has out-of-sample signals.")
    width = signals.groupby(["model", "origin"])["symbol"].transform("size")
    if width.max() < rules.symbols_needed:
        return _too_few_symbols(int(width.max()), rules)
    narrow, usable = signals[width < rules.symbols_needed], signals[width >= rules.symbols_needed]
    members = np.ones(prices.close.shape, dtype=bool) if members is None else members
    listed = members & ~(prices.sessions[:, None] > prices.ends)
    all_scores = {str(model): _scores(own, prices, step) for model, own in usable.groupby("model")}
    scores = {model: _of_members(score, listed, rules) for model, score in all_scores.items()}
    emptied = [model for model, score in scores.items() if not len(_scored_sessions(score))]
    if emptied:
        return NoBacktest(
            f"No backtest: {', '.join(emptied)} never has signals for {rules.symbols_needed} symbols that are members "
            "of the universe on the next session. Forecast more origins or symbols."
        )
    window = _common_sessions(scores, prices)
    if window is None:
        return NoBacktest(
            "No backtest: the signals of the models have fewer than two trading sessions in common. "
            "Forecast more origins."
        )
    scores = {model: score[window] for model, score in scores.items()}
    notes = (
        *_narrow_notes(narrow, rules),
        *_thinned_notes(all_scores, scores, window, rules),
        *_delisting_notes(scores, prices, window),
        *_volume_notes(scores, prices),
    )
    return BacktestPlan(
        days=prices.sessions[window],
        symbols=prices.symbols,
        ids=prices.ids,
        scores=scores,
        benchmark=_benchmark(scores, prices.open[window], _filled(prices.close)[window], members[window]),
        notes=notes,
        ends=prices.ends,
        states=session_states(prices, rules.limits)[window],
    )


def _too_few_symbols(widest: int, rules: TradingRules) -> NoBacktest:
    n_drop = min(rules.n_drop, widest // 2)
    topk = min(rules.topk, widest - n_drop)
    fitting = f"set backtest.topk = {topk} and backtest.n_drop = {n_drop}, or "
    return NoBacktest(
        f"No backtest: with topk = {rules.topk} and n_drop = {rules.n_drop} it needs {rules.symbols_needed} symbols "
        f"with a signal at one origin, and there are at most {widest}: {fitting if n_drop else ''}name "
        f"{rules.symbols_needed} symbols or more in market.symbols."
    )


def _common_sessions(scores: Mapping[str, np.ndarray], prices: PricePanel) -> slice | None:
    """From the first session on which all models have scores to one after the last; None: fewer than two to trade."""
    first = max(_scored_sessions(score)[0] for score in scores.values())
    last = min(_scored_sessions(score)[-1] for score in scores.values()) + 1
    last = min(last, len(prices.sessions) - 1)
    return slice(first, last + 1) if last - first >= 2 else None


def _scores(signals: pd.DataFrame, prices: PricePanel, step: int) -> np.ndarray:
    """Ranks, 1 the lowest; ties are broken by symbol, so that ranks are unique. Shape (sessions, symbols)."""
    table = signals.pivot(index="origin", columns="symbol", values="value").reindex(columns=list(prices.symbols))
    ranks = table.rank(axis=1, method="first").to_numpy(dtype=np.float64)
    origins = np.searchsorted(prices.sessions, table.index.to_numpy().astype("datetime64[D]"))
    until = np.minimum(np.r_[origins[1:], len(prices.sessions)], origins + step)
    found = np.full((len(prices.sessions), len(prices.symbols)), np.nan)
    for origin, end, rank in zip(origins, until, ranks, strict=True):
        found[origin:end] = rank
    return found


def _of_members(score: np.ndarray, members: np.ndarray, rules: TradingRules) -> np.ndarray:
    """Scores of the symbols that are members on the next session, on which they would trade.

    Membership of the next session is announced in advance. Sessions with fewer than topk + n_drop such symbols have no
    scores.
    """
    found = np.where(np.r_[members[1:], members[-1:]], score, np.nan)
    found[np.isfinite(found).sum(axis=1) < rules.symbols_needed] = np.nan
    return found


def _benchmark(
    scores: Mapping[str, np.ndarray], opens: np.ndarray, closes: np.ndarray, members: np.ndarray
) -> np.ndarray:
    """Daily returns of the benchmark: equal weights at the first open, rebalanced at the close before a change of the
    universe, otherwise held; no costs.

    The universe of a day is the members with a signal of any model on the evening before; without signals, the holdings
    that are still members. A symbol without a bar returns 0.
    """
    universe = np.any([np.isfinite(score) for score in scores.values()], axis=0)
    found = np.empty(len(closes) - 1)
    held = universe[0] & np.isfinite(opens[1]) & np.isfinite(closes[1])
    # Where no symbol of the universe trades on the first session, nothing is held until one does.
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


def _scored_sessions(score: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isfinite(score).any(axis=1))


def _filled(closes: np.ndarray) -> np.ndarray:
    return pd.DataFrame(closes).ffill().to_numpy()


def _thinned_notes(
    all_scores: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray], window: slice, rules: TradingRules
) -> list[str]:
    lost = {
        model: len(_scored_sessions(all_scores[model][window])) - len(_scored_sessions(scores[model]))
        for model in scores
    }
    return [
        f"{model}: after {count} sessions fewer than {rules.symbols_needed} symbols with a signal were members on the "
        "next session; nothing was traded and positions were held."
        for model, count in lost.items()
        if count
    ]


def _delisting_notes(scores: Mapping[str, np.ndarray], prices: PricePanel, window: slice) -> list[str]:
    """A note on the symbols that could be bought and were delisted before the last day."""
    ranked = np.any([np.isfinite(score).any(axis=0) for score in scores.values()], axis=0)
    gone = np.flatnonzero(ranked & (prices.ends < prices.sessions[window][-1]))
    if not len(gone):
        return []
    named = ", ".join(f"{prices.symbols[symbol]} ({prices.ends[symbol]})" for symbol in gone)
    return [
        f"Delisted within the backtest: {named}. Holdings were settled on the next session at the last close, without "
        "costs; the actual proceeds of a delisting may be lower."
    ]


def _volume_notes(scores: Mapping[str, np.ndarray], prices: PricePanel) -> list[str]:
    """A note on the symbols that could be bought and whose volume is not known."""
    ranked = np.any([np.isfinite(score).any(axis=0) for score in scores.values()], axis=0)
    silent = np.flatnonzero(ranked & prices.without_volume)
    if not len(silent):
        return []
    named = ", ".join(prices.symbols[symbol] for symbol in silent)
    return [
        f"No bar has a volume above 0: {named}. Their volume counts as unknown: every session with a bar is taken as "
        "traded."
    ]


def _narrow_notes(narrow: pd.DataFrame, rules: TradingRules) -> tuple[str, ...]:
    counts = narrow.groupby("model")["origin"].nunique()
    return tuple(
        f"{model}: {count} origins had fewer than {rules.symbols_needed} symbols with a signal; nothing was traded and "
        "positions were held."
        for model, count in counts.items()
    )
