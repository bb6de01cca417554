"""What the report says of the money, in words. Of the forecasts, the evaluation's own verdict speaks."""

from __future__ import annotations

from collections.abc import Mapping

from assets.backtests.measures import BENCHMARK, by_model
from assets.backtests.plan import NoPlan
from assets.backtests.report.contents import Contents
from assets.backtests.report.words import interval, listing, model_name, number


def money(contents: Contents) -> str:
    """Does any portfolio beat holding the universe, after costs?"""
    if isinstance(contents.backtest.plan, NoPlan):
        return contents.backtest.plan.reason
    measures = by_model(contents.backtest.measures)
    models = {model: own for model, own in measures.items() if model != BENCHMARK}
    best = max(models, key=lambda model: models[model]["excess_return"])
    sure = [model for model, own in models.items() if own["excess_return_low"] > 0]
    if sure:
        names = listing([model_name(model) for model in sure])
        return f"After costs, {names} beat holding the universe; the best, {model_name(best)}, {_excess(models[best])}."
    return (
        "After costs, no model's portfolio was shown to beat holding the universe; "
        f"the nearest, {model_name(best)}, {_excess(models[best])}."
    )


def _excess(measures: Mapping[str, float]) -> str:
    value, low, high = (measures[name] for name in ("excess_return", "excess_return_low", "excess_return_high"))
    more = "more" if value >= 0 else "less"
    between = interval(low, high, "percent", signed=True)
    return f"made {number(abs(value), 'percent')} a year {more} (interval {between})"
