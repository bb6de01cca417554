"""The verdict text on the backtest. The verdict on forecast skill is in assets.forecasting.verdict."""

from __future__ import annotations

from collections.abc import Mapping

from assets.backtests.measures import BENCHMARK, by_model
from assets.backtests.plan import NoBacktest
from assets.backtests.report.contents import ReportContents
from assets.backtests.report.formatting import interval, listing, model_name, number, plural

# Ten origins within one spring once exceeded the benchmark by 50 %: less than a year is not evidence.
MIN_SESSIONS = 252


def backtest_verdict(contents: ReportContents) -> str:
    """Which portfolios beat the benchmark after costs, by interval and Deflated Sharpe ratio."""
    if isinstance(contents.backtest.plan, NoBacktest):
        return contents.backtest.plan.reason
    measures = by_model(contents.backtest.measures)
    models = {model: own for model, own in measures.items() if model != BENCHMARK}
    confidence = float(contents.settings["evaluation"]["confidence"])
    significant = [model for model, own in models.items() if is_significant(own, confidence)]
    if significant:
        texts = [f"{model_name(model)} ({excess_text(models[model])})" for model in significant]
        return f"Backtest after costs: {listing(texts)} beat the benchmark."
    best = max(models, key=lambda model: models[model]["excess_return"])
    return (
        "Backtest after costs: no model beats the benchmark significantly. "
        f"The best is {model_name(best)}: {excess_text(models[best])}."
    )


def is_significant(measures: Mapping[str, float], confidence: float) -> bool:
    """Whether interval and Deflated Sharpe ratio of the excess return show more than 0, over at least a year."""
    deflated = measures.get("deflated_sharpe", 0.0) >= confidence
    return measures.get("excess_return_low", 0.0) > 0 and deflated and measures["sessions"] >= MIN_SESSIONS


def excess_text(measures: Mapping[str, float]) -> str:
    """`annual excess return +2.0 % (interval …; Deflated Sharpe ratio …)`."""
    value = measures["excess_return"]
    text = f"annual excess return {number(value, 'percent', signed=True)}"
    if "excess_return_low" not in measures:
        return f"{text}, no interval from only {plural(int(measures['sessions']), 'session')}"
    low, high = measures["excess_return_low"], measures["excess_return_high"]
    deflated = number(measures.get("deflated_sharpe"), "percent")
    return f"{text}, interval {interval(low, high, 'percent', signed=True)}, Deflated Sharpe ratio {deflated}"
