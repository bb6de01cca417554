"""The verdict text on the backtest. The verdict on forecast skill is in assets.forecasting.verdict."""

from __future__ import annotations

from collections.abc import Mapping

from assets.backtests.edge import POWER
from assets.backtests.measures import BENCHMARK, by_model
from assets.backtests.plan import NoBacktest
from assets.backtests.report.contents import ReportContents
from assets.backtests.report.formatting import interval, listing, model_name, number, plural, typeset

# Ten origins within one spring once exceeded the benchmark by 50 %: less than a year is not evidence.
MIN_SESSIONS = 252


def backtest_verdict(contents: ReportContents) -> str:
    """Which portfolios beat the benchmark after costs, by the intervals of excess return and alpha and by the Deflated
    Sharpe ratio; and the smallest edge that the backtest could have detected."""
    if isinstance(contents.backtest.plan, NoBacktest):
        return contents.backtest.plan.reason
    measures = by_model(contents.backtest.measures)
    models = {model: own for model, own in measures.items() if model != BENCHMARK}
    confidence = float(contents.settings["evaluation"]["confidence"])
    significant = [model for model, own in models.items() if is_significant(own, confidence)]
    if significant:
        texts = [f"{model_name(model)} ({excess_text(models[model])})" for model in significant]
        return f"Backtest after costs: {listing(texts)} beat the benchmark."
    best = max(models, key=lambda model: models[model].get("alpha", models[model]["excess_return"]))
    return (
        "Backtest after costs: no model beats the benchmark significantly. "
        f"The best is {model_name(best)}: {excess_text(models[best])}."
    )


def is_significant(measures: Mapping[str, float], confidence: float) -> bool:
    """Whether excess return and alpha are above 0 by their intervals, the Deflated Sharpe ratio reaches the confidence,
    and the backtest covers a year."""
    deflated = measures.get("deflated_sharpe", 0.0) >= confidence
    above = all(measures.get(name, 0.0) > 0 for name in ("excess_return_low", "alpha_low"))
    return above and deflated and measures["sessions"] >= MIN_SESSIONS


def excess_text(measures: Mapping[str, float]) -> str:
    """`annual excess return +2.0 %, interval …; alpha +1.2 %, interval …, beta 1.12; Deflated Sharpe ratio …`."""
    text = f"annual excess return {number(measures['excess_return'], 'percent', signed=True)}"
    if "excess_return_low" not in measures:
        return f"{text}, no interval from only {plural(int(measures['sessions']), 'session')}"
    deflated = number(measures.get("deflated_sharpe"), "percent")
    return (
        f"{text}, interval {_interval(measures, 'excess_return')}; "
        f"alpha {number(measures.get('alpha'), 'percent', signed=True)}, interval {_interval(measures, 'alpha')}, "
        f"beta {number(measures.get('beta'))}; Deflated Sharpe ratio {deflated}; smallest alpha detectable with "
        f"{typeset(f'{POWER:.0%}')} power {number(measures.get('minimum_detectable_alpha'), 'percent', signed=True)}"
    )


def _interval(measures: Mapping[str, float], name: str) -> str:
    return interval(measures.get(f"{name}_low"), measures.get(f"{name}_high"), "percent", signed=True)
