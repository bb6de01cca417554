"""Yesterday's forecasts against the truth: each scored when the session that it was about has come.

Once, unless what it was scored against changes: a bar that is corrected or withdrawn, a split that comes to light.
`scored_truths` remembers that. Only forecasts of bars of one frequency are looked at: others have their truths in other
bars. Works through chunks of origins: truths from the histories, one array of quantiles a
model, all scores of the chunk in one transaction. So memory is bounded by the chunk; a killed run loses one at most.
Not here: what the scores add up to (scoreboard).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from assets.forecasting.actuals import closes_after, naive_scale
from assets.forecasting.metrics import Metric, as_levels, rank_ic, score
from assets.market.history import CLOSE, History
from resources.calendar import DAILY, TradingCalendar
from resources.progress import Progress, silent
from resources.warehouse import Warehouse

CELLS_AT_ONCE = 200_000
ACROSS_SYMBOLS = "*"

# Equal but for rounding, which depends on how far a history reaches.
_SAME = "coalesce(abs(t.{name} - k.{name}) <= 1e-9 * abs(k.{name}), t.{name} IS NOT DISTINCT FROM k.{name})"
_IN_RANGE = "field = 'close' AND level = 0.5 AND target_ts >= $first AND target_ts < $after"
# The checkpoints whose forecasts are of bars of another frequency; a recipe that does not say is of days.
OTHERS = f"""
SELECT model, checkpoint FROM forecast_recipes
WHERE coalesce(json_extract_string(recipe, '$.frequency'), '{DAILY}') <> $frequency
"""
_OWN = f"ANTI JOIN ({OTHERS}) USING (model, checkpoint)"
_ORIGINS = f"""
SELECT origin, count(DISTINCT (symbol, step)) AS cells
FROM forecast_quantiles {_OWN} WHERE {_IN_RANGE} GROUP BY origin ORDER BY origin
"""
_CELLS = f"""
SELECT DISTINCT symbol, origin, step, target_ts
FROM forecast_quantiles {_OWN} WHERE {_IN_RANGE} AND origin BETWEEN $oldest AND $newest
ORDER BY symbol, origin, step
"""
_MODELS = f"""
SELECT DISTINCT model, checkpoint FROM forecasts {_OWN} WHERE origin BETWEEN $oldest AND $newest ORDER BY ALL
"""
# The cells whose truth is new, has changed or is gone since they were scored. `wanted` and `truths` are registered.
_MOVED = f"""
WITH known AS (FROM scored_truths WHERE origin BETWEEN $oldest AND $newest)
SELECT symbol, origin, step FROM truths t LEFT JOIN known k USING (symbol, origin, step)
WHERE NOT coalesce({" AND ".join(_SAME.format(name=name) for name in ("truth", "last", "scale"))}, false)
UNION ALL
SELECT symbol, origin, step FROM wanted SEMI JOIN known USING (symbol, origin, step)
    ANTI JOIN truths USING (symbol, origin, step)
"""
# What has a truth and no score against it yet. `truths` and `moved` are registered.
_UNSCORED = """
WITH missing AS (
    SELECT symbol, origin, step, truth, last, scale FROM truths
    ANTI JOIN (
        SELECT symbol, origin, step FROM forecast_scores ANTI JOIN moved USING (symbol, origin, step)
        WHERE model = $model AND checkpoint = $checkpoint AND metric = 'crps' AND origin BETWEEN $oldest AND $newest
    ) USING (symbol, origin, step)
)
SELECT symbol, origin, step, any_value(truth) AS truth, any_value(last) AS last, any_value(scale) AS scale,
       list(level) AS levels, list(value) AS quantiles
FROM forecast_quantiles JOIN missing USING (symbol, origin, step)
WHERE model = $model AND checkpoint = $checkpoint AND field = 'close' AND origin BETWEEN $oldest AND $newest
GROUP BY symbol, origin, step
ORDER BY origin, step, symbol
"""
# Every symbol's median of the origins and steps that were scored, whenever the others were.
_MEDIANS = """
SELECT q.origin, q.step, q.symbol, q.value / t.last - 1 AS said, t.truth / t.last - 1 AS was
FROM forecast_quantiles q JOIN truths t USING (symbol, origin, step) SEMI JOIN touched USING (origin, step)
WHERE q.model = $model AND q.checkpoint = $checkpoint AND q.field = 'close' AND q.level = 0.5
  AND q.origin BETWEEN $oldest AND $newest
"""
_FORGET_SCORES = f"""
DELETE FROM forecast_scores USING moved m
WHERE (forecast_scores.model, forecast_scores.checkpoint) NOT IN ({OTHERS})
  AND forecast_scores.origin BETWEEN $oldest AND $newest AND forecast_scores.symbol = m.symbol
  AND forecast_scores.origin = m.origin AND forecast_scores.step = m.step
"""
_FORGET_RANKS = """
DELETE FROM forecast_scores USING touched_ranks t
WHERE forecast_scores.origin BETWEEN $oldest AND $newest AND forecast_scores.symbol = $across
  AND forecast_scores.model = t.model AND forecast_scores.checkpoint = t.checkpoint
  AND forecast_scores.origin = t.origin AND forecast_scores.step = t.step
"""
_FORGET_TRUTHS = """
DELETE FROM scored_truths USING moved m
WHERE scored_truths.origin BETWEEN $oldest AND $newest AND scored_truths.symbol = m.symbol
  AND scored_truths.origin = m.origin AND scored_truths.step = m.step
"""
_ADD_TRUTHS = """
INSERT INTO scored_truths SELECT symbol, origin, step, truth, last, scale
FROM truths SEMI JOIN moved USING (symbol, origin, step)
"""
_ADD = """
INSERT INTO forecast_scores SELECT model, checkpoint, symbol, origin, step, metric, value FROM new_scores
"""


@dataclass(frozen=True)
class Scored:
    """What became of the forecasts about some sessions: rows written, cells looked at, cells without a bar."""

    rows: int
    cells: int
    without_truth: int


def score_sessions(
    warehouse: Warehouse,
    histories: Mapping[str, History],
    sessions: Sequence[date],
    progress: Progress = silent,
    calendar: TradingCalendar | None = None,
) -> Scored:
    """Score every forecast whose target lies between the first and the last of `sessions` and has no score yet, or one
    against what is no longer so. Forecasts of bars of another frequency than the calendar's stay as they are.

    A forecast without a bar at its target, because it was suspended or has not arrived, is scored when that is there.

    Args:
        calendar: whose sessions they are; none: a session has one bar, stamped with its day.
    """
    frequency: dict[str, object] = {"frequency": calendar.frequency if calendar else DAILY}
    window = {**_window(min(sessions), max(sessions), calendar), **frequency}
    spans = list(_spans(warehouse.frame(_ORIGINS, window)))
    rows = cells = without_truth = 0
    for done, (oldest, newest) in enumerate(spans):
        span = {"oldest": oldest, "newest": newest}
        wanted = warehouse.frame(_CELLS, {**window, **span})
        truths = truths_of(wanted, histories)
        added = _score_span(warehouse, wanted, truths, span, frequency)
        rows, cells, without_truth = rows + added, cells + len(wanted), without_truth + len(wanted) - len(truths)
        progress(done + 1, len(spans), f"{rows:,} scores")
    return Scored(rows, cells, without_truth)


def _window(first: date, last: date, calendar: TradingCalendar | None) -> dict[str, object]:
    """From when until when targets are scored. In the east, a session's first hours are on the UTC day before."""
    if calendar is None:
        return {"first": first, "after": last + timedelta(days=1)}
    stamps = calendar.stamps(first, last)
    return {"first": stamps[0].to_pydatetime(), "after": (stamps[-1] + timedelta(seconds=1)).to_pydatetime()}


def truths_of(cells: pd.DataFrame, histories: Mapping[str, History]) -> pd.DataFrame:
    """What then was, for forecasts of (symbol, origin, step, target_ts) in this order; those without a truth left out.

    Adds the columns truth, last (the origin's close) and scale (MASE's denominator), in the prices of the origin's day.
    """
    symbols, origins = cells["symbol"].to_numpy(), cells["origin"].to_numpy().astype("datetime64[s]")
    targets = cells["target_ts"].to_numpy().astype("datetime64[s]")
    truth, last, scale = (np.full(len(cells), np.nan) for _ in range(3))
    changes = np.flatnonzero((symbols[1:] != symbols[:-1]) | (origins[1:] != origins[:-1])) + 1
    for start, end in zip([0, *changes], [*changes, len(cells)], strict=True) if len(cells) else ():
        history = histories.get(symbols[start])
        index = history.index_of(origins[start]) if history else None
        if history is None or index is None:
            continue
        truth[start:end] = closes_after(history, index, targets[start:end])
        last[start:end] = history.quoted[index, CLOSE]
        scale[start:end] = naive_scale(history, index)
    known = np.isfinite(truth)
    return cells.assign(truth=truth, last=last, scale=scale)[known]


def _spans(origins: pd.DataFrame) -> Iterator[tuple[object, object]]:
    """First and last origin of runs of about CELLS_AT_ONCE symbols × steps."""
    chunk = origins["cells"].cumsum() // CELLS_AT_ONCE
    for _, group in origins.groupby(chunk):
        yield group["origin"].iloc[0].to_pydatetime(), group["origin"].iloc[-1].to_pydatetime()


def _score_span(
    warehouse: Warehouse,
    wanted: pd.DataFrame,
    truths: pd.DataFrame,
    span: dict[str, object],
    frequency: dict[str, object],
) -> int:
    scores, ranked = [], []
    with warehouse.read() as connection:
        connection.register("wanted", wanted)
        connection.register("truths", truths)
        moved = connection.sql(_MOVED, params=span).to_arrow_table()
        connection.register("moved", moved)
        for model, checkpoint in connection.execute(_MODELS, {**span, **frequency}).fetchall():
            named = {"model": model, "checkpoint": checkpoint, **span}
            unscored = connection.sql(_UNSCORED, params=named).to_arrow_table()
            touched = pa.concat_tables([part.select(["origin", "step"]) for part in (unscored, moved)])
            if not touched.num_rows:
                continue
            connection.register("touched", touched)
            scores += [_named(model, checkpoint, table) for table in _scores(unscored)]
            scores.append(_named(model, checkpoint, _ranks(connection.execute(_MEDIANS, named).df())))
            ranked.append(_named(model, checkpoint, touched))
            connection.unregister("touched")
    if not ranked:
        return 0
    added = pa.concat_tables(scores, promote_options="permissive")
    with warehouse.write() as connection:
        connection.register("truths", truths)
        connection.register("moved", moved)
        connection.register("touched_ranks", pa.concat_tables(ranked))
        connection.register("new_scores", added)
        connection.execute(_FORGET_SCORES, {**span, **frequency})
        connection.execute(_FORGET_RANKS, {"across": ACROSS_SYMBOLS, **span})
        connection.execute(_ADD)
        connection.execute(_FORGET_TRUTHS, span)
        connection.execute(_ADD_TRUTHS)
    return added.num_rows


def _scores(unscored: pa.Table) -> list[pa.Table]:
    """One table a metric, of symbol, origin, step, metric and value; undefined scores left out."""
    count = unscored.num_rows
    if not count:
        return []
    levels, quantiles = (
        unscored.column(name).combine_chunks().flatten().to_numpy().reshape(count, -1)
        for name in ("levels", "quantiles")
    )
    order = np.argsort(levels, axis=1)
    truth, last, scale = (unscored.column(name).to_numpy() for name in ("truth", "last", "scale"))
    ordered = np.take_along_axis(quantiles, order, axis=1)
    scored = score(ordered, as_levels(levels[0, order[0]]), truth, last, scale)
    cells = unscored.select(["symbol", "origin", "step"])
    return [_table(cells, metric, values) for metric, values in scored.items()]


def _ranks(medians: pd.DataFrame) -> pa.Table:
    said, was = (medians.pivot(index=["origin", "step"], columns="symbol", values=name) for name in ("said", "was"))
    found = rank_ic(said, was)
    cells = pa.table(
        {
            "symbol": pa.repeat(ACROSS_SYMBOLS, len(found)),
            "origin": found.index.get_level_values("origin").to_numpy(),
            "step": found.index.get_level_values("step").to_numpy(),
        }
    )
    return _table(cells, "rank_ic", found.to_numpy())


def _table(cells: pa.Table, metric: Metric, values: np.ndarray) -> pa.Table:
    scores = cells.append_column("metric", pa.repeat(metric, len(values))).append_column("value", pa.array(values))
    return scores.filter(np.isfinite(values))


def _named(model: str, checkpoint: str, scores: pa.Table) -> pa.Table:
    named = scores.append_column("model", pa.repeat(model, scores.num_rows))
    return named.append_column("checkpoint", pa.repeat(checkpoint, scores.num_rows))
