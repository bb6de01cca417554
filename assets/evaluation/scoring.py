"""Scoring: every forecast against the actual close, once its target session is over.

A forecast is scored once, and again only if the actual changes: a bar is corrected or withdrawn, or a split becomes
known. The table `scored_actuals` holds what each score was computed against. Only forecasts of bars of one frequency
are scored at a time: those of other frequencies have their actuals in other bars.

Works in chunks of origins: actuals from the histories, one array of quantiles per model, all scores of a chunk in one
transaction. So memory is bounded by the chunk, and a killed run loses one chunk at most. Not here: the comparison of
models (scoreboard).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import cast

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from assets.forecasting.actuals import actual_closes, naive_scale
from assets.forecasting.metrics import Metric, as_levels, rank_ic, score
from assets.market.history import CLOSE, BarHistory
from resources.calendar import DAILY, TradingCalendar
from resources.progress import Progress, silent
from resources.publish import digest_of
from resources.sql import load_sql
from resources.warehouse import Warehouse

# The scores of all models of a chunk are in memory at once: 1.3 GiB with 26 models.
CELLS_PER_CHUNK = 25_000
# The symbol of a score across symbols.
ACROSS_SYMBOLS = "*"

ACTUAL_COLUMNS = ("actual", "last_close", "scale")
_EQUAL = "coalesce(abs(a.{name} - k.{name}) <= 1e-9 * abs(k.{name}), a.{name} IS NOT DISTINCT FROM k.{name})"
# Checkpoints whose forecasts are of bars of another frequency; a recipe without a frequency is of daily bars.
_OTHER_FREQUENCIES = f"""
SELECT model, checkpoint FROM forecast_recipes
WHERE coalesce(json_extract_string(recipe, '$.frequency'), '{DAILY}') <> $frequency
"""
_OF_FREQUENCY = f"ANTI JOIN ({_OTHER_FREQUENCIES}) USING (model, checkpoint)"
_DUE = "field = 'close' AND level = 0.5 AND target_ts >= $first AND target_ts < $after"
_ORIGINS = f"""
SELECT origin, count(DISTINCT (symbol, step)) AS cells
FROM forecast_quantiles {_OF_FREQUENCY} WHERE {_DUE} GROUP BY origin ORDER BY origin
"""
_CELLS = f"""
SELECT DISTINCT symbol, origin, step, target_ts
FROM forecast_quantiles {_OF_FREQUENCY} WHERE {_DUE} AND origin BETWEEN $oldest AND $newest
ORDER BY symbol, origin, step
"""
_MODELS = f"""
SELECT DISTINCT model, checkpoint FROM forecasts {_OF_FREQUENCY}
WHERE origin BETWEEN $oldest AND $newest ORDER BY ALL
"""
_CONTENT = f"""
SELECT count(*) AS rows,
       bit_xor(md5_number(concat_ws('|', model, checkpoint, symbol, origin, step, metric, value)))::VARCHAR AS digest
FROM forecast_scores {_OF_FREQUENCY} WHERE origin BETWEEN $oldest AND $newest
"""
_ADD_SCORES = (
    "INSERT INTO forecast_scores SELECT model, checkpoint, symbol, origin, step, metric, value FROM new_scores"
)
_ADD_ACTUALS = """
INSERT INTO scored_actuals SELECT symbol, origin, step, actual, last_close, scale
FROM actuals SEMI JOIN changed USING (symbol, origin, step)
"""


@dataclass(frozen=True)
class ScoringResult:
    """Counts of one scoring run: score rows written, cells (symbol, origin, step) due, cells without an actual."""

    rows: int
    cells: int
    without_actual: int


@dataclass(frozen=True)
class _Chunk:
    """The cells of some neighbouring origins.

    Attributes:
        cells: columns symbol, origin, step, target_ts.
        actuals: those with a bar at the target, as `actuals_of` returns them.
    """

    oldest: object
    newest: object
    cells: pd.DataFrame
    actuals: pd.DataFrame

    @property
    def span(self) -> dict[str, object]:
        return {"oldest": self.oldest, "newest": self.newest}


def score_sessions(
    warehouse: Warehouse,
    histories: Mapping[str, BarHistory],
    sessions: Sequence[date],
    progress: Progress = silent,
    calendar: TradingCalendar | None = None,
) -> ScoringResult:
    """Score the forecasts whose target lies between the first and the last of `sessions`.

    Only those that have no score yet, or one against an actual that has changed since. A forecast without a bar at its
    target (suspended, or not received yet) is scored by a later run. Forecasts of bars of another frequency than the
    calendar's are left as they are.

    Args:
        calendar: gives the frequency and the times of the sessions' bars; None: daily bars, stamped with their date.
    """
    frequency = calendar.frequency if calendar else DAILY
    window = {**_target_window(min(sessions), max(sessions), calendar), "frequency": frequency}
    spans = list(_chunk_spans(warehouse.frame(_ORIGINS, window)))
    rows = cells = without_actual = 0
    for done, (oldest, newest) in enumerate(spans):
        due = warehouse.frame(_CELLS, {**window, "oldest": oldest, "newest": newest})
        chunk = _Chunk(oldest, newest, due, actuals_of(due, histories))
        rows += _score_chunk(warehouse, chunk, frequency)
        cells, without_actual = cells + len(due), without_actual + len(due) - len(chunk.actuals)
        progress(done + 1, len(spans), f"{rows:,} scores")
    return ScoringResult(rows, cells, without_actual)


def actuals_of(cells: pd.DataFrame, histories: Mapping[str, BarHistory]) -> pd.DataFrame:
    """The cells with a bar at their target, with the columns actual, last_close and scale added.

    All in prices of the origin's day: the close at the target, the close at the origin, the denominator of MASE.

    Args:
        cells: columns symbol, origin, step, target_ts, ordered by the first three.
    """
    symbols, origins = cells["symbol"].to_numpy(), cells["origin"].to_numpy().astype("datetime64[s]")
    targets = cells["target_ts"].to_numpy().astype("datetime64[s]")
    actual, last_close, scale = (np.full(len(cells), np.nan) for _ in range(3))
    changes = np.flatnonzero((symbols[1:] != symbols[:-1]) | (origins[1:] != origins[:-1])) + 1
    for start, end in zip([0, *changes], [*changes, len(cells)], strict=True) if len(cells) else ():
        history = histories.get(symbols[start])
        index = history.index_of(origins[start]) if history else None
        if history is None or index is None:
            continue
        actual[start:end] = actual_closes(history, index, targets[start:end])
        last_close[start:end] = history.quoted[index, CLOSE]
        scale[start:end] = naive_scale(history, index)
    known = np.isfinite(actual)
    with_actuals: pd.DataFrame = cells.assign(actual=actual, last_close=last_close, scale=scale)[known]
    return with_actuals


def score_content(warehouse: Warehouse, first: date, last: date, horizon: int, frequency: str) -> tuple[int, str]:
    """The number of scores of the origins whose forecasts reach the sessions `first` … `last`, and their digest."""
    oldest, newest = origins_that_reach(first, last, horizon)
    found = warehouse.frame(_CONTENT, {"oldest": oldest, "newest": newest, "frequency": frequency})
    return int(found["rows"][0]), str(found["digest"][0])


def origins_that_reach(first: date, last: date, horizon: int) -> tuple[date, date]:
    """Bounds of the origins whose forecasts have targets in the sessions `first` … `last`."""
    # Sessions to calendar days: two in seven are weekend, and holidays cluster.
    return first - timedelta(days=2 * horizon + 7), last + timedelta(days=1)


def content_by_session(
    warehouse: Warehouse, sessions: Sequence[date], calendar: TradingCalendar
) -> dict[date, tuple[int, str]]:
    """The number of scores whose target is in each session, and their digest; sessions without any are left out."""
    window = {**_target_window(min(sessions), max(sessions), calendar), "frequency": calendar.frequency}
    sql = load_sql("assets.evaluation", "scores_by_target.sql").format(of_frequency=_OF_FREQUENCY, due=_DUE)
    origins = warehouse.frame(_ORIGINS, window)["origin"]
    if origins.empty:
        return {}
    span = {"oldest": origins.iloc[0].to_pydatetime(), "newest": origins.iloc[-1].to_pydatetime()}
    found = warehouse.frame(sql, {**window, **span})
    grid = calendar.grid(min(sessions), max(sessions))
    by_session = found.merge(grid[["ts", "session"]], left_on="target_ts", right_on="ts").groupby("session")
    return {
        cast(pd.Timestamp, session).date(): (int(own["rows"].sum()), digest_of(own["digest"].tolist()))
        for session, own in by_session
    }


def _target_window(first: date, last: date, calendar: TradingCalendar | None) -> dict[str, object]:
    """The targets to score: from `first` until before `after`.

    East of Greenwich, the first hours of a session are on the UTC day before.
    """
    if calendar is None:
        return {"first": first, "after": last + timedelta(days=1)}
    stamps = calendar.stamps(first, last)
    return {"first": stamps[0].to_pydatetime(), "after": (stamps[-1] + timedelta(seconds=1)).to_pydatetime()}


def _chunk_spans(origins: pd.DataFrame) -> Iterator[tuple[object, object]]:
    """The first and last origin of chunks of about CELLS_PER_CHUNK symbols × steps."""
    chunk = origins["cells"].cumsum() // CELLS_PER_CHUNK
    for _, group in origins.groupby(chunk):
        yield group["origin"].iloc[0].to_pydatetime(), group["origin"].iloc[-1].to_pydatetime()


def _score_chunk(warehouse: Warehouse, chunk: _Chunk, frequency: str) -> int:
    """Score what has no score yet or a changed actual, and return the number of rows written."""
    unchanged = " AND ".join(_EQUAL.format(name=name) for name in ACTUAL_COLUMNS)
    scores: list[pa.Table] = []
    ranked: list[pa.Table] = []
    with warehouse.read() as connection:
        connection.register("wanted", chunk.cells)
        connection.register("actuals", chunk.actuals)
        query = load_sql("assets.evaluation", "actuals_changed.sql").format(unchanged=unchanged)
        changed = connection.sql(query, params=chunk.span).to_arrow_table()
        connection.register("changed", changed)
        models = connection.execute(_MODELS, {**chunk.span, "frequency": frequency}).fetchall()
        for model, checkpoint in models:
            new, touched = _score_model(connection, model, checkpoint, chunk.span, changed)
            scores += [_with_model(model, checkpoint, table) for table in new]
            if touched.num_rows:
                ranked.append(_with_model(model, checkpoint, touched))
    if not ranked:
        return 0
    added = pa.concat_tables(scores, promote_options="permissive")
    delete_scores = load_sql("assets.evaluation", "delete_scores.sql").format(other_frequencies=_OTHER_FREQUENCIES)
    with warehouse.write() as connection:
        connection.register("actuals", chunk.actuals)
        connection.register("changed", changed)
        connection.register("touched_ranks", pa.concat_tables(ranked))
        connection.register("new_scores", added)
        connection.execute(delete_scores, {**chunk.span, "frequency": frequency})
        connection.execute(
            load_sql("assets.evaluation", "delete_rank_correlations.sql"),
            {"across_symbols": ACROSS_SYMBOLS, **chunk.span},
        )
        connection.execute(_ADD_SCORES)
        connection.execute(load_sql("assets.evaluation", "delete_actuals.sql"), chunk.span)
        connection.execute(_ADD_ACTUALS)
    return int(added.num_rows)


def _score_model(
    connection: duckdb.DuckDBPyConnection, model: str, checkpoint: str, span: dict[str, object], changed: pa.Table
) -> tuple[list[pa.Table], pa.Table]:
    """The new scores of one checkpoint, and the (origin, step) whose rank correlation is computed anew."""
    named = {"model": model, "checkpoint": checkpoint, **span}
    unscored = connection.sql(load_sql("assets.evaluation", "unscored.sql"), params=named).to_arrow_table()
    touched = pa.concat_tables([part.select(["origin", "step"]) for part in (unscored, changed)])
    if not touched.num_rows:
        return [], touched
    connection.register("touched", touched)
    returns = connection.execute(load_sql("assets.evaluation", "median_returns.sql"), named).df()
    connection.unregister("touched")
    return [*_scores(unscored), _rank_correlations(returns)], touched


def _scores(unscored: pa.Table) -> list[pa.Table]:
    """One table per metric: symbol, origin, step, metric, value, without undefined scores."""
    count = unscored.num_rows
    if not count:
        return []
    levels, quantiles = (
        unscored.column(name).combine_chunks().flatten().to_numpy().reshape(count, -1)
        for name in ("levels", "quantiles")
    )
    order = np.argsort(levels, axis=1)
    actual, last_close, scale = (unscored.column(name).to_numpy() for name in ACTUAL_COLUMNS)
    ordered = np.take_along_axis(quantiles, order, axis=1)
    scored = score(ordered, as_levels(levels[0, order[0]]), actual, last_close, scale)
    cells = unscored.select(["symbol", "origin", "step"])
    return [_score_table(cells, metric, values) for metric, values in scored.items()]


def _rank_correlations(returns: pd.DataFrame) -> pa.Table:
    predicted, actual = (
        returns.pivot(index=["origin", "step"], columns="symbol", values=name) for name in ("predicted", "actual")
    )
    found = rank_ic(predicted, actual)
    cells = pa.table(
        {
            "symbol": pa.repeat(ACROSS_SYMBOLS, len(found)),
            "origin": found.index.get_level_values("origin").to_numpy(),
            "step": found.index.get_level_values("step").to_numpy(),
        }
    )
    return _score_table(cells, "rank_ic", found.to_numpy())


def _score_table(cells: pa.Table, metric: Metric, values: np.ndarray) -> pa.Table:
    scores = cells.append_column("metric", pa.repeat(metric, len(values))).append_column("value", pa.array(values))
    return scores.filter(np.isfinite(values))


def _with_model(model: str, checkpoint: str, scores: pa.Table) -> pa.Table:
    named = scores.append_column("model", pa.repeat(model, scores.num_rows))
    return named.append_column("checkpoint", pa.repeat(checkpoint, scores.num_rows))
