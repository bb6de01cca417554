from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from assets.acceptance import CheckOutcome
from assets.forecasting.baselines.closed_form import baseline_forecasters
from assets.forecasts import kept_coverage
from assets.forecasts.checks import CHECKS, COVERAGE, EARLIER_ORIGINS, check_result, check_specs
from assets.forecasts.coverage import (
    Bound,
    bounds_of,
    check_bounds,
    coverage_by_period,
    without_unlearnt,
)
from assets.forecasts.generate import generate_forecasts
from assets.forecasts.origin_coverage import coverage_by_origin
from resources.settings import EvaluationSettings, ForecastSettings
from resources.sql import load_sql
from tests.forecasts.forecast_home import ForecastHome

LEVELS, BOUNDS = ForecastSettings().levels, ForecastSettings().coverage_bounds
QUICK = EvaluationSettings(bootstrap_draws=200)


def _bounds() -> list[Bound]:
    return bounds_of(LEVELS, BOUNDS)


def _by_origin(shares: np.ndarray, model: str = "kronos_recalibrated", every: int = 7) -> pd.DataFrame:
    """Coverage of the 90 % interval at weekly origins; that of the others is nominal."""
    stamps = pd.date_range("2003-01-06", periods=len(shares), freq=f"{every}D")
    noise = np.random.default_rng(0).normal(0, 0.03, len(shares))
    covered = pd.DataFrame({0.9: np.clip(shares + noise, 0, 1), 0.8: 0.8 + noise, 0.5: 0.5 + noise})
    return covered.assign(model=model, origin=stamps, ends=stamps + pd.Timedelta(days=14))


def _outcome(by_origin: pd.DataFrame, block: bool = False) -> CheckOutcome:
    return check_bounds(coverage_by_period(by_origin, _bounds(), QUICK, 0), _bounds(), block)


def test_the_bounds_are_of_the_intervals_that_the_levels_have() -> None:
    assert [one.interval.text for one in _bounds()] == ["90 %", "80 %", "50 %"]
    (only,) = bounds_of((0.1, 0.5, 0.9), BOUNDS)
    assert (only.low, only.high) == BOUNDS["80"]
    assert "coverage_bounds" in check_bounds(pd.DataFrame(), bounds_of((0.4, 0.5), BOUNDS), True).description


def test_nominal_coverage_passes_and_a_coverage_outside_fails_with_model_interval_and_bounds() -> None:
    assert _outcome(_by_origin(np.full(150, 0.9))).passed
    narrow = _outcome(pd.concat([_by_origin(np.full(150, 0.8)), _by_origin(np.full(150, 0.9), "har_recalibrated")]))
    assert not narrow.passed and not narrow.severe
    assert all(text in narrow.description for text in ("kronos_recalibrated", "90 %", "80.", "86 %", "94 %", "2004"))
    assert "har" not in narrow.description and "forecasts.coverage_bounds" in narrow.description
    assert _outcome(_by_origin(np.full(150, 0.8)), block=True).severe


def test_a_single_bad_year_fails_under_its_name() -> None:
    shares = np.full(156, 0.9)
    shares[_by_origin(shares)["origin"].dt.year == 2004] = 0.7
    found = _outcome(_by_origin(shares))
    assert not found.passed and "in 2004" in found.description
    assert "2003" not in found.description and "2005" not in found.description


def test_what_is_outside_only_perhaps_passes() -> None:
    """The mean is 85 %, and swings by half a year of it."""
    swings = np.where(np.arange(150) % 50 < 25, 0.95, 0.75)
    coverage = coverage_by_period(_by_origin(swings), _bounds(), QUICK, 0)
    (whole,) = coverage[(coverage["nominal"] == 0.9) & (coverage["period"] == "all")].to_dict("records")
    assert whole["coverage"] < BOUNDS["90"][0] < whole["high"]


@pytest.mark.parametrize("origins", [0, 3, 12])
def test_too_few_origins_pass_and_the_check_says_so(origins: int) -> None:
    by_origin = _by_origin(np.full(origins, 0.3)) if origins else pd.DataFrame()
    found = _outcome(by_origin, block=True)
    assert found.passed and "too few origins" in found.description and str(origins) in found.description


def test_a_year_too_short_to_tell_is_counted_beside_a_range_that_is_long_enough() -> None:
    found = _outcome(_by_origin(np.full(57, 0.9)))
    assert found.passed and "1 periods have too few origins" in found.description


def test_origins_at_which_nothing_was_learnt_yet_are_left_out_and_counted() -> None:
    """Weekly origins of one symbol with targets up to two weeks ahead: 100 outcomes are known after 101 origins."""
    shares = np.where(np.arange(200) < 101, 0.5, 0.9)
    found = _by_origin(shares).assign(outcomes=1, learnt_from=np.arange(200))
    assert not _outcome(found).passed
    kept, left_out = without_unlearnt(found)
    assert left_out.to_dict("records") == [{"model": "kronos_recalibrated", "origins": 101}]
    outcome = check_bounds(coverage_by_period(kept, _bounds(), QUICK, 0), _bounds(), True, left_out)
    assert outcome.passed and "101" in outcome.description
    # With a warm-up all are judged, and so is a model that does not learn.
    for learnt_from in (found["learnt_from"] + 101, np.nan):
        same, none = without_unlearnt(found.assign(learnt_from=learnt_from))
        assert len(same) == len(found) and none.empty


def test_coverage_is_that_of_the_stored_quantiles_with_their_ends(home: ForecastHome) -> None:
    walk = next(one for one in baseline_forecasters(home.settings) if one.model == "random_walk")
    generate_forecasts(home.candlecast, walk, home.tasks(date(2012, 1, 3), date(2012, 3, 30)))
    found = coverage_by_origin(home.candlecast, {"random_walk": walk.checkpoint}, _bounds())
    origin = found["origin"].iloc[4]
    stored = home.warehouse.frame(
        "SELECT symbol, target_ts, min(value) AS low, max(value) AS high FROM forecast_quantiles "
        "WHERE origin = $origin AND level IN (0.05, 0.95) GROUP BY ALL",
        {"origin": origin.to_pydatetime()},
    )
    inside = []
    for row in stored.to_dict("records"):
        history = home.histories()[str(row["symbol"])]
        at = history.index_of(origin.to_datetime64().astype("datetime64[s]"))
        target = history.index_of(row["target_ts"].to_datetime64().astype("datetime64[s]"))
        assert at is not None and target is not None
        close = history.closes_as_of(at, target, target)[0]
        inside.append(row["low"] <= close <= row["high"])
    assert len(inside) == 40
    assert found[0.9].iloc[4] == pytest.approx(np.mean(inside))
    assert found["ends"].iloc[4] == stored["target_ts"].max()
    assert coverage_by_origin(home.candlecast, {"random_walk": "another"}, _bounds()).empty


@pytest.mark.parametrize("block", [False, True])
def test_a_coverage_outside_of_its_bounds_blocks_what_follows_only_where_the_settings_say_so(block: bool) -> None:
    outcome = _outcome(_by_origin(np.full(150, 0.7)), block)

    @dg.asset(check_specs=check_specs("derived", derived=True))
    def derived() -> dg.MaterializeResult:  # type: ignore[type-arg]
        others = [check_result(one.name, CheckOutcome(True, "fine")) for one in (*CHECKS, EARLIER_ORIGINS)]
        return dg.MaterializeResult(check_results=[*others, check_result(COVERAGE.name, outcome)])

    @dg.asset(deps=[derived])
    def follows() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([derived, follows], instance=instance, raise_on_error=False)
        made = [event.asset_key for event in run.get_asset_materialization_events()]
    assert (dg.AssetKey("follows") in made) is not block
    assert dg.AssetKey("derived") in made


@pytest.mark.parametrize(
    "bounds", [{"ninety": (0.8, 0.95)}, {"100": (0.9, 1.0)}, {"90": (0.91, 0.95)}, {"90": (0.5, 1.1)}]
)
def test_bounds_that_do_not_enclose_their_nominal_coverage_are_refused(bounds: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bounds))):
        ForecastSettings(coverage_bounds=bounds)


def test_shares_are_computed_for_new_origins_alone_and_again_where_forecasts_or_bars_change(
    home: ForecastHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = next(one for one in baseline_forecasters(home.settings) if one.model == "random_walk")
    used, file = {"random_walk": walk.checkpoint}, tmp_path / "some.coverage"
    early, late = home.tasks(date(2012, 1, 3), date(2012, 3, 30)), home.tasks(date(2012, 4, 2), date(2012, 4, 30))
    computed = list[int]()
    anew = coverage_by_origin

    def counted(*args: Any) -> pd.DataFrame:
        computed.append(len(args[-1]))
        return anew(*args)

    monkeypatch.setattr(kept_coverage, "coverage_by_origin", counted)

    def origins(own: Collection[np.datetime64] = ()) -> int:
        """How many origins were computed; the result is that without a file."""
        computed.clear()
        found = kept_coverage.kept_coverage(home.candlecast, used, _bounds(), file, own)
        several = sum(computed)
        pd.testing.assert_frame_equal(found, anew(home.candlecast, used, _bounds()), check_like=True, check_dtype=False)
        return several

    before, after = (len({task.origin for task in tasks}) for tasks in (early, late))
    generate_forecasts(home.candlecast, walk, early)
    assert (origins(), origins()) == (before, 0)
    generate_forecasts(home.candlecast, walk, late)
    assert (origins(), origins()) == (after, 0)
    file.write_bytes(file.read_bytes()[:-9])
    assert (origins(), origins()) == (before + after, 0)
    bar, made = early[6 * len({task.symbol for task in early})].origin.item(), late[0].origin.item()
    for changes, several in (
        ("UPDATE bars SET close = close * 1.2 WHERE symbol = 'IBM' AND ts = ?", bar),
        ("UPDATE forecasts SET made_at = made_at + INTERVAL 1 SECOND WHERE origin = ?", made),
    ):
        with home.warehouse.write() as connection:
            connection.execute(changes, [several])
        assert 0 < origins() < before and origins() == 0
    with home.warehouse.write() as connection:
        connection.execute("UPDATE forecast_quantiles SET value = value * 1.1 WHERE origin = ?", [made])
    assert origins({late[0].origin}) == 1


def test_an_action_of_the_session_of_the_last_target_changes_what_is_kept_whatever_its_day_in_utc(
    home: ForecastHome,
) -> None:
    """The last bar of Sydney's session of 2012-05-10 that is a target starts on the evening before."""
    windows = pa.table({"origin": [datetime(2012, 5, 8, 5)], "last": [datetime(2012, 5, 9, 23)]})
    sql, found = load_sql(kept_coverage.__package__, "window_bars.sql"), list[object]()
    for dividend in (0.3, 0.4):
        with home.warehouse.write() as connection:
            changed = "UPDATE corporate_actions SET ex_date = '2012-05-10', value = ? WHERE symbol = 'IBM'"
            connection.execute(changed, [dividend])
        with home.warehouse.read() as connection:
            connection.register("windows", windows)
            found.append(connection.execute(sql, {"frequency": "1h"}).fetchall())
    assert found[0] != found[1]
