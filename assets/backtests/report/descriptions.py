"""Explanatory text of the report: the trading rules, the universe, the notes below tables and the limitations."""

from __future__ import annotations

from collections.abc import Sequence

from assets.backtests.report.contents import ReportContents
from assets.backtests.report.formatting import listing, model_name, number, plural, typeset
from assets.backtests.results import sessions_per_year
from assets.backtests.rules import INVESTED
from assets.forecasting.intervals import drawn_intervals

SURVIVORSHIP_EFFECT = "Strategy and benchmark can buy only survivors, so both look better than they would have been."
DELISTED_INCLUDED = (
    "Survivorship: delisted symbols are in the universe while they were members; a symbol that the source never listed "
    "is missing."
)
LIMITATIONS = (
    "Sample size: few symbols and one period. Results of another period may differ; the intervals cover only this one.",
    "Execution: every order is filled completely at the next open, in fractional shares and without market impact. No "
    "borrowing, short sales or taxes; cash earns no interest. A suspended holding keeps its last price; a delisted one "
    "is settled at it.",
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
        f"Strategy: Qlib's TopkDropout, one portfolio each for {models}, {plan.days[1]} to {plan.days[-1]} "
        f"({plural(len(plan.days) - 1, 'session')}). After each close the symbols are ranked by their signal, the "
        f"expected return over {plural(step, 'bar')} (mean of the quantile forecast). At the next open the portfolio "
        f"holds {plural(rules['topk'], 'symbol')} and replaces at most {rules['n_drop']}, {INVESTED:.0%} invested. A "
        f"signal is valid until the next origin, at most for its horizon. Costs: {number(100 * rules['open_cost'])} % "
        f"of the value on buying, {number(100 * rules['close_cost'])} % on selling. Benchmark: equal weights of all "
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
        f"excess return is the mean daily difference from the benchmark times {year}, not compounded; its interval is "
        "from a block bootstrap (blocks of 10 sessions), Bonferroni-corrected for the number of models. Turnover is "
        "the value bought and sold over the account. The information ratio is that of the net excess return. The "
        "Deflated Sharpe ratio is the probability that the excess return's Sharpe ratio is above the best one "
        "expected from as many models without skill; only the models of this report are counted."
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


def survivorship_text(contents: ReportContents) -> str:
    """The limitation that results from the universe."""
    note = contents.universe.note
    return f"{note} {SURVIVORSHIP_EFFECT}" if note else DELISTED_INCLUDED


def _membership_text(contents: ReportContents) -> str:
    if contents.universe.derived_from == "bars":
        return ""
    return (
        " A symbol that leaves the universe leaves the benchmark at its last close as a member; the portfolios no "
        "longer buy it and sell it first, within the daily limit."
    )
