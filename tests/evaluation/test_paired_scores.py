"""Scores of models beside those of the baselines: only cells that both scored, summed without rounding."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.evaluation import paired_scores as pairing
from assets.evaluation.score_queries import paired_scores
from assets.forecasting.metrics import ALL_STEPS, BASELINES
from resources.warehouse import Warehouse

USED: Mapping[str, str | tuple[str, ...]] = {
    "kronos": ("old", "new"), "chronos2": "c", "random_walk": "r", "random_walk_ewma": "e",
}  # fmt: skip
HORIZONS = [ALL_STEPS, 1, 3]


def _scores(scale: float, share: float = 0.7) -> pd.DataFrame:
    """Of four origins, three steps and three symbols; every model has a share of them. Kronos has two checkpoints."""
    rng = np.random.default_rng(11)
    pairs = [(model, one) for model, used in USED.items() for one in ([used] if isinstance(used, str) else used)]
    index = pd.MultiIndex.from_product(
        [range(len(pairs)), ["A", "B", "C"], pd.date_range("2021-03-01", periods=4, freq="7D"), [1, 2, 3],
         ["crps", "coverage_90"]], names=["pair", "symbol", "origin", "step", "metric"],
    )  # fmt: skip
    cells = index.to_frame(index=False)
    cells["value"] = rng.lognormal(0, 1, len(cells)) * scale
    cells["model"], cells["checkpoint"] = (
        cells["pair"].map(dict(enumerate(part))) for part in zip(*pairs, strict=True)
    )
    return cells[rng.random(len(cells)) < share].reset_index(drop=True)


def _expected(scores: pd.DataFrame) -> pd.DataFrame:
    """The means over the pairs of a join, from sums of decimals."""
    unit = Decimal("0.000000000001")
    exact = scores.assign(exact=scores["value"].map(lambda value: Decimal(value).quantize(unit)))
    both = exact.merge(exact, on=["symbol", "origin", "step", "metric"], suffixes=("", "_b"))
    both = both[both["model_b"].isin(BASELINES) & (both["model"] != both["model_b"])]
    parts = [both.assign(horizon=one) if one == ALL_STEPS else both[both["step"] == one].assign(horizon=one)
             for one in HORIZONS]  # fmt: skip
    keys = ["model", "metric", "horizon", "model_b", "origin"]
    grouped = pd.concat(parts).groupby(keys)
    means = {name: grouped[part].agg(lambda own: float(sum(own)) / len(own))
             for name, part in (("value", "exact"), ("baseline_value", "exact_b"))}  # fmt: skip
    return pd.DataFrame(means).reset_index().rename(columns={"model_b": "baseline"})


@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_means_are_exact_over_the_cells_that_both_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    monkeypatch.setattr(pairing, "SCORES_AT_ONCE", 100)  # two origins at a time
    warehouse, scores = Warehouse(tmp_path / "warehouse.duckdb"), _scores(scale)
    with warehouse.write() as connection:
        connection.register("scores", scores)
        connection.execute("INSERT INTO forecast_scores BY NAME SELECT * EXCLUDE (pair) FROM scores")
    found = paired_scores(warehouse, USED, HORIZONS)
    keys = ["model", "metric", "horizon", "baseline", "origin"]
    expected = _expected(scores).sort_values(keys, ignore_index=True)
    ordered = found.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(ordered[keys], expected[keys], check_dtype=False)
    values = ["value", "baseline_value"]
    np.testing.assert_allclose(ordered[values], expected[values], rtol=3e-16 if scale == 1 else 1e-15)


def test_sums_over_several_checkpoints_do_not_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "SCORES_AT_ONCE", 1)  # one origin at a time
    warehouse, value = Warehouse(tmp_path / "warehouse.duckdb"), 1e6  # nine fit into 64 bits, and two times nine do not
    scores = _scores(1.0, share=1).assign(value=value)
    with warehouse.write() as connection:
        connection.register("scores", scores)
        connection.execute("INSERT INTO forecast_scores BY NAME SELECT * EXCLUDE (pair) FROM scores")
    found = paired_scores(warehouse, USED, HORIZONS)
    assert (found[["value", "baseline_value"]] == value).all(axis=None)
