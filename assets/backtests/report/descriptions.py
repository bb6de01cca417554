"""Explanatory text of the report: the trading rules, the universe, the notes below tables and the limitations."""

from __future__ import annotations

from collections.abc import Sequence

from assets.backtests.edge import BLOCK_SESSIONS, POWER
from assets.backtests.report.contents import ReportContents
from assets.backtests.report.formatting import listing, model_name, number, plural, typeset
from assets.backtests.results import sessions_per_year
from assets.backtests.rules import INVESTED
from assets.backtests.tradability import PriceLimits
from assets.forecasting.intervals import drawn_intervals
from resources.settings import BacktestSettings

SURVIVORSHIP_EFFECT = "Strategy and benchmark can buy only survivors, so both look better than they would have been."
DROPOUT = {
    "tradable": "A holding that cannot be sold, by hold_thresh or the market, does not count towards n_drop; the next "
    "symbol takes the place of one that cannot be bought.",
    "qlib": "As in Qlib, orders that are not filled count towards n_drop, and more than topk may be held.",
}
MOST_CLOSURES = 12
DELISTED_INCLUDED = (
    "Survivorship: delisted symbols are in the universe while they were members; a symbol that the source never listed "
    "is missing."
)
LIMITATIONS = (
    "Sample size: few symbols and one period. Results of another period may differ; the intervals cover only this one.",
    "Execution: an order is refused or filled completely at the next open, in fractional shares and without market "
    "impact. No borrowing, short sales or taxes; cash earns no interest. A suspended holding keeps its last price; a "
    "delisted one is settled at it. Where an order is refused, dropout = tradable gives its place to another at "
    "the open, although a session without volume or at its limit is certain only at the close. The benchmark is not "
    "restricted by suspensions and price limits.",
    "Multiple testing: settings, seeds and models that were tried before this report are not included in any interval.",
    "Published weights may have been trained on the test period. Forecasts before a known training cutoff are marked "
    "in-sample and are excluded from scores and backtest.",
)


def rules_text(contents: ReportContents) -> str:
    """Strategy, period, costs and benchmark of the backtest; empty without a backtest."""
    plan, rules = contents.plan, contents.settings["backtest"]
    if plan is None:
        return ""
    models = listing([model_name(model) for model in sorted(plan.scores)])
    step = rules["signal_step"] or contents.settings["windows"]["predict_window"]
    return (
        f"Strategy: TopkDropout, simulated by Qlib, one portfolio each for {models}, {plan.days[1]} to {plan.days[-1]} "
        f"({plural(len(plan.days) - 1, 'session')}); the check qlib_equals_the_reference_loop compares every session "
        f"with candlecast's own simulation. After each close the symbols are ranked by their signal, the "
        f"expected return over {plural(step, 'bar')} (mean of the quantile forecast). At the next open the portfolio "
        f"holds {plural(rules['topk'], 'symbol')} and replaces at most {rules['n_drop']}, {INVESTED:.0%} invested. "
        f"{DROPOUT[rules['dropout']]} {_refusal_text(contents)} A signal is valid until the next origin, at most for "
        f"its horizon. Costs: {number(100 * rules['open_cost'])} % of the value on buying, "
        f"{number(100 * rules['close_cost'])} % on selling. Benchmark: equal weights of all "
        "symbols with a signal on the evening before, bought at the first open and rebalanced when this universe "
        f"changes, without costs.{_membership_text(contents)}"
    )


def intervals_text(levels: Sequence[float]) -> str:
    """The intervals of the fan charts: `80 % interval`, `50 %, 80 % and 90 % intervals`; without any: `no interval`."""
    shown = [one.text for one in reversed(drawn_intervals(levels))]
    return typeset(f"{listing(shown) or 'no'} interval{'s' if len(shown) > 1 else ''}")


def backtest_note(calendar: str) -> str:
    """How the measures of the backtest are computed."""
    year = sessions_per_year(calendar)
    return (
        f"Gross is before costs, net after costs. Annual returns are compounded ({year} sessions per year). The annual "
        "excess return is the annual net return minus the benchmark's. Alpha and beta are from a regression of the "
        "daily net returns on the benchmark's: alpha is the part of the return that more market exposure does not "
        "explain, its daily value compounded; the risk-free rate is 0. Intervals are from a block bootstrap (blocks "
        f"of {BLOCK_SESSIONS} sessions), Bonferroni-corrected for the number of models. The smallest detectable alpha "
        f"is the true alpha whose interval lies above 0 with {POWER:.0%} power; a smaller edge may exist unseen. "
        "Turnover is the value bought and sold over the account. The information ratio is that of the net excess "
        "return. The Deflated Sharpe ratio is the probability that the excess return's Sharpe ratio is above the best "
        "one expected from as many models without skill; only the models of this report are counted. A model beats "
        "the benchmark only by both intervals and the Deflated Sharpe ratio."
    )


def calendar_text(contents: ReportContents) -> str:
    """Which calendar the target timestamps follow, and the closures of the test range that it knows in hindsight."""
    market, (first, last) = contents.settings["market"], contents.settings["windows"]["test"]
    text = (
        f"Calendar: sessions and target timestamps follow the calendar {market['calendar']} of exchange_calendars "
        f"{contents.versions.get('exchange-calendars', '')} as it is known today, not as it was known at the origin."
    )
    if not contents.closures:
        return f"{text} It lists no irregular closure from {first} to {last}."
    shown = [str(day) for day in contents.closures[:MOST_CLOSURES]]
    more = len(contents.closures) - len(shown)
    listed = listing([*shown, f"{more:,} more"] if more else shown)
    return (
        f"{text} From {first} to {last} it lists {plural(len(contents.closures), 'closure')} that no rule predicts: "
        f"{listed}. Where such a day was not announced by the origin, the targets after it use hindsight: "
        f"{plural(contents.origins_before_closures, 'origin has', 'origins have')} one within the horizon."
    )


def universe_text(contents: ReportContents) -> tuple[str, ...]:
    """The source of the universe's membership, and its bias; empty without bars."""
    universe, file = contents.universe, contents.settings["market"]["members"]
    if contents.market.coverage.empty:
        return ()
    source = (
        f"Universe: the members per session are read from the file {file}."
        if universe.derived_from == "members"
        else "Universe: a symbol is a member from its first bar to its last bar."
    )
    return (source, *filter(None, [universe.note]))


def corrected_text(contents: ReportContents) -> str:
    """How many forecasts were made from bars that were corrected since; empty: none."""
    counts = contents.market.corrected_since
    if not counts:
        return ""
    models = listing([f"{model_name(model)} {count:,}" for model, count in counts])
    return (
        f"Forecasts made from bars that were corrected since: {models}. They stay as they were made; their scores use "
        "the corrected bars, their signals the close that was known. The view made_from_corrected_bars lists them."
    )


def survivorship_text(contents: ReportContents) -> str:
    """The limitation that results from the universe."""
    note = contents.universe.note
    return f"{note} {SURVIVORSHIP_EFFECT}" if note else DELISTED_INCLUDED


def _refusal_text(contents: ReportContents) -> str:
    """Which orders the market refuses."""
    rules = contents.settings["backtest"]
    limits = PriceLimits.of(BacktestSettings.model_validate(rules), contents.settings["market"]["calendar"])
    shown = [
        f"{number(100 * limit, 'count')} %{'' if pattern == '*' else f' for {pattern}'}"
        for pattern, limit in limits.by_pattern.items()
        if limit
    ]
    text = "Orders are refused on sessions without a bar or with volume 0"
    if not shown:
        return f"{text}; the market has no price limit."
    return (
        f"{text}, purchases at an open at the upper price limit, and sales at the lower one ({listing(shown)} of the "
        "previous close)."
    )


def _membership_text(contents: ReportContents) -> str:
    if contents.universe.derived_from == "bars":
        return ""
    return (
        " A symbol that leaves the universe leaves the benchmark at its last close as a member; the portfolios no "
        "longer buy it and sell it first, within the daily limit."
    )
