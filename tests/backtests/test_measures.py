from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import CircularBlockBootstrap

from assets.backtests.edge import BootstrapOptions, edge, edge_statistics, resampled
from assets.backtests.measures import (
    by_model,
    drawdown,
    equity,
    expected_maximum,
    measure,
    probability_above,
)
from assets.backtests.results import sessions_per_year
from assets.backtests.tradability import REFUSED

RESAMPLING = BootstrapOptions(draws=300, confidence=0.9, seed=7)


def days(models: tuple[str, ...] = ("a", "b"), count: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    benchmark = rng.normal(0.0004, 0.01, count)
    frames = []
    for place, model in enumerate(models):
        gross = benchmark + rng.normal(0.0003 * place, 0.004, count)
        cost = np.full(count, 0.0001)
        frames.append(
            pd.DataFrame(
                {
                    "model": model,
                    "session": pd.date_range("2020-01-01", periods=count),
                    "gross": gross,
                    "cost": cost,
                    "net": gross - cost,
                    "benchmark": benchmark,
                    "turnover": 0.1,
                    **dict.fromkeys(REFUSED, place),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def test_the_deflated_sharpe_ratio_reproduces_the_published_example() -> None:
    """Bailey and López de Prado (2014): 100 trials, annual variance 1/2, 1,250 days, annual Sharpe ratio 2.5."""
    threshold = expected_maximum(np.sqrt(0.5 / 250), 100)
    assert threshold == pytest.approx(0.1132, abs=5e-5)
    assert probability_above(2.5 / np.sqrt(250), threshold, 1250, -3.0, 10.0) == pytest.approx(0.9004, abs=5e-5)


def test_drawdown_is_measured_from_the_running_maximum_including_the_start() -> None:
    assert np.allclose(equity(np.array([-0.5, 1.0, 0.2])), [1, 0.5, 1.0, 1.2])
    assert np.allclose(drawdown(np.array([-0.5, 1.0, 0.2, -0.5])), [0, -0.5, 0, 0, -0.5])


def test_measures_agree_with_the_daily_returns() -> None:
    own = days()
    found = by_model(measure(own, RESAMPLING))
    a = own[own["model"] == "a"]
    assert found["a"]["total_return_net"] == pytest.approx(np.prod(1 + a["net"]) - 1)
    assert found["a"]["annual_return_gross"] > found["a"]["annual_return_net"]
    assert found["a"]["turnover"] == pytest.approx(0.1 * 252)
    assert found["a"]["cost"] == pytest.approx(0.0001 * 252)
    assert found["a"]["excess_return_low"] < found["a"]["excess_return"] < found["a"]["excess_return_high"]
    assert found["b"]["deflated_sharpe"] > found["a"]["deflated_sharpe"]
    assert found["benchmark"]["total_return_net"] == pytest.approx(np.prod(1 + a["benchmark"]) - 1)


def test_a_market_that_never_closes_has_365_sessions_a_year() -> None:
    assert sessions_per_year("24/7") == 365
    assert {sessions_per_year(calendar) for calendar in ("XNYS", "XSHG", "XTAE")} == {252}
    found = by_model(measure(days(), RESAMPLING, sessions_per_year("24/7")))["a"]
    assert found["annual_return_net"] == pytest.approx((1 + found["total_return_net"]) ** (365 / 300) - 1)
    assert found["turnover"] == pytest.approx(0.1 * 365)


def test_a_single_model_with_zero_returns_has_only_finite_measures() -> None:
    flat = days(("a",), count=20).assign(gross=0.0, cost=0.0, net=0.0, benchmark=0.0, turnover=0.0)
    found = measure(flat, RESAMPLING)
    assert np.isfinite(found["value"]).all()
    assert "sharpe_net" not in by_model(found)["a"]


def test_the_excess_return_is_the_difference_of_the_compounded_annual_returns() -> None:
    found = by_model(measure(days(), RESAMPLING))
    for model in ("a", "b"):
        difference = found[model]["annual_return_net"] - found["benchmark"]["annual_return_net"]
        assert found[model]["excess_return"] == pytest.approx(difference)
    assert [found[model]["refused_orders"] for model in ("a", "b")] == [0.0, 1200.0]


def test_leverage_alone_is_excess_return_but_no_alpha() -> None:
    rng = np.random.default_rng(7)
    half, noise = rng.normal(0, 0.01, 500), rng.normal(0, 0.002, 500)
    benchmark = np.r_[half, -half] + 0.0008
    found = edge(1.2 * benchmark + np.r_[noise, noise[::-1]] - noise.mean(), benchmark, RESAMPLING, 252)
    assert found["beta"] == pytest.approx(1.2, abs=0.02)
    assert found["excess_return"] > 0.02
    assert found["alpha_low"] < 0 < found["alpha_high"]
    exact = edge(0.0001 + 1.2 * benchmark, benchmark, RESAMPLING, 252)
    assert exact["alpha"] == pytest.approx(1.0001**252 - 1)
    assert exact["minimum_detectable_alpha"] == pytest.approx(0, abs=1e-9)


def test_an_edge_of_the_detectable_size_is_found_in_four_of_five_histories() -> None:
    rng = np.random.default_rng(9)
    options = BootstrapOptions(draws=100, confidence=0.9, seed=1)

    def history(alpha: float) -> dict[str, float]:
        benchmark, noise = rng.normal(0, 0.01, 500), rng.normal(0, 0.004, 500)
        return edge((1 + alpha) ** (1 / 252) - 1 + 1.1 * benchmark + noise, benchmark, options, 252)

    detectable = float(np.median([history(0.0)["minimum_detectable_alpha"] for _ in range(20)]))
    share = np.mean([history(detectable)["alpha_low"] > 0 for _ in range(150)])
    assert 0.7 < share < 0.9
    assert np.mean([history(0.0)["alpha_low"] > 0 for _ in range(150)]) < 0.1


@pytest.mark.parametrize("count", [50, 57, 300])
def test_resampled_histories_are_those_of_arch(count: int) -> None:
    returns = np.random.default_rng(count).normal(0, 0.01, (count, 2))
    own = resampled(returns, RESAMPLING, 252)
    drawn = CircularBlockBootstrap(RESAMPLING.block, returns, seed=np.random.default_rng(RESAMPLING.seed))
    assert np.array_equal(own, drawn.apply(lambda sessions: edge_statistics(sessions, 252), RESAMPLING.draws))


def test_no_interval_reaches_below_a_total_loss() -> None:
    rng = np.random.default_rng(4)
    net, benchmark = rng.normal(-0.004, 0.06, 100), rng.normal(0.002, 0.01, 100)
    found = edge(net, benchmark, RESAMPLING, 252)
    assert found["alpha_low"] > -1
    assert found["excess_return_low"] > -(np.prod(1 + benchmark) ** 2.52)
    assert found["excess_return_low"] < found["excess_return"] < found["excess_return_high"]


def test_intervals_are_reproducible_and_wider_at_a_higher_confidence() -> None:
    a = days()
    net, benchmark = (a.loc[a["model"] == "b", name].to_numpy() for name in ("net", "benchmark"))
    found = edge(net, benchmark, RESAMPLING, 252)
    assert found == edge(net, benchmark, RESAMPLING, 252)
    wider = edge(net, benchmark, BootstrapOptions(draws=300, confidence=0.99, seed=7), 252)
    for name in ("excess_return", "alpha"):
        assert wider[f"{name}_low"] < found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_fewer_than_fifty_sessions_give_no_interval_of_the_excess() -> None:
    short = by_model(measure(days(count=49), RESAMPLING))
    assert {"excess_return", "alpha", "beta"} <= short["a"].keys()
    assert not {"excess_return_low", "alpha_low", "minimum_detectable_alpha"} & short["a"].keys()
    assert {"excess_return_low", "alpha_low"} <= by_model(measure(days(count=50), RESAMPLING))["a"].keys()
