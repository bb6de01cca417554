"""What the report says of the money, in words. Of the forecasts, the evaluation's own verdict speaks."""

from __future__ import annotations

from collections.abc import Mapping

from assets.backtests.measures import BENCHMARK, by_model
from assets.backtests.plan import NoBacktest
from assets.backtests.report.contents import ReportContents
from assets.backtests.report.formatting import interval, listing, model_name, number, plural

# Ten origins of one spring once "beat" the market by half: less than a year of sessions shows nothing.
LEAST_SESSIONS = 252


def backtest_verdict(contents: ReportContents) -> str:
    """Does any portfolio beat holding the universe, after costs, beyond what the luckiest of as many would?"""
    if isinstance(contents.backtest.plan, NoBacktest):
        return contents.backtest.plan.reason
    measures = by_model(contents.backtest.measures)
    models = {model: own for model, own in measures.items() if model != BENCHMARK}
    confidence = float(contents.settings["evaluation"]["confidence"])
    sure = [model for model, own in models.items() if is_shown(own, confidence)]
    if sure:
        told = [f"{model_name(model)}, which {excess_text(models[model])}" for model in sure]
        return f"After costs, portfolios that beat holding the universe: {listing(told)}."
    best = max(models, key=lambda model: models[model]["excess_return"])
    return (
        "After costs, no model's portfolio was shown to beat holding the universe; "
        f"the nearest, {model_name(best)}, {excess_text(models[best])}."
    )


def is_shown(measures: Mapping[str, float], confidence: float) -> bool:
    """Whether the excess is above 0 by its interval, beyond luck by its Deflated Sharpe ratio, over a year at least."""
    beyond_luck = measures.get("deflated_sharpe", 0.0) >= confidence
    return measures.get("excess_return_low", 0.0) > 0 and beyond_luck and measures["sessions"] >= LEAST_SESSIONS


def excess_text(measures: Mapping[str, float]) -> str:
    """`made 2.0 % a year more (interval …)`."""
    value = measures["excess_return"]
    told = f"made {number(abs(value), 'percent')} a year {'more' if value >= 0 else 'less'}"
    if "excess_return_low" not in measures:
        return f"{told} ({plural(int(measures['sessions']), 'session')} are too few for an interval)"
    low, high = measures["excess_return_low"], measures["excess_return_high"]
    beyond_luck = number(measures.get("deflated_sharpe"), "percent")
    return f"{told} (interval {interval(low, high, 'percent', signed=True)}; Deflated Sharpe ratio {beyond_luck})"
