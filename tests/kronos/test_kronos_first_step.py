"""The first step's distribution without sampling, and stratified paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kronos import FirstStepLaw, InputError, KronosPredictor, KronosTokenizer, Sampling
from kronos.inference.engine import PredictorEngine
from kronos.inference.first_step import POINTS, spread_points
from kronos.inference.generate import SeriesGroup, generate
from kronos.inference.sampling import SOBOL_DIMENSIONS, sample_tokens, stratified_draws, token_weights
from kronos.model import Kronos
from tests.kronos.kronos_pairs import random_bars, random_stamps

BARS, LEVELS = 24, [0.05, 0.25, 0.5, 0.75, 0.95]


def brute_force(predictor: KronosPredictor, sampling: Sampling) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Probabilities (pairs,) and closes (pairs,) of all pairs of tokens after random bars, by the uncached modules."""
    model, tokenizer = predictor.model, predictor.tokenizer
    frame = random_bars(BARS)
    values, mean, std = predictor.normalisation.apply(frame.to_numpy()[None], BARS)
    stamps = torch.from_numpy(np.stack([_stamps(frame)]))
    with torch.inference_mode():
        past = tokenizer.encode(torch.from_numpy(values), half=True)
        logits, hidden = model.decode_s1(*past, stamps)
        coarse = token_weights(logits[:, -1], sampling)[0]
        ids = torch.arange(len(coarse))
        fine = model.decode_s2(hidden.expand(len(ids), -1, -1), ids[:, None])[:, -1]
        joint = coarse[:, None] * token_weights(fine, sampling)
        pairs = torch.cartesian_prod(ids, torch.arange(fine.shape[1]))
        whole = [torch.cat((p.expand(len(pairs), -1), pairs[:, half, None]), dim=1) for half, p in enumerate(past)]
        closes = tokenizer.decode((whole[0], whole[1]), half=True)[:, -1, 3]
    weights = joint.flatten().double().numpy()
    return weights / weights.sum(), closes.numpy() * (std[0, 3] + 1e-5) + mean[0, 3]


def _stamps(frame: Any) -> NDArray[np.int64]:
    from kronos.features import time_features

    return time_features(frame.index)


@pytest.fixture
def decided(tiny_predictor: KronosPredictor) -> KronosPredictor:
    """Random weights whose heads are scaled up, so that a few pairs are much more likely than the others."""
    predictor = KronosPredictor(Kronos(config=tiny_predictor.model.config).eval(), tiny_predictor.tokenizer, "cpu")
    predictor.model.load_state_dict(tiny_predictor.model.state_dict())
    with torch.no_grad():
        for head in (predictor.model.head.proj_s1, predictor.model.head.proj_s2):
            head.weight.mul_(2)
    return predictor


@pytest.mark.parametrize("options", [{}, {"T": 0.6, "top_p": 0.9}, {"top_k": 3}, {"T": 0.0}], ids=str)
def test_the_first_step_is_the_sum_over_all_pairs(decided: KronosPredictor, options: dict[str, Any]) -> None:
    law = decided.first_step(random_bars(BARS), project=False, **options)
    sampling = Sampling(options.get("T", 1.0), options.get("top_k", 0), options.get("top_p", 1.0))
    weights, closes = brute_force(decided, sampling)
    assert law.values.shape == (1, POINTS, 6)
    assert law.probabilities.sum() == pytest.approx(1)
    largest = np.sort(weights)[::-1]
    assert 0.2 < law.exact[0] <= largest[:POINTS].sum() + 1e-6
    spread = np.sqrt((weights * (closes - weights @ closes) ** 2).sum())
    # What is not exact is spread evenly: its error is a small part of its share.
    allowed = 1e-4 * abs(closes).max() + 0.05 * (1 - law.exact[0]) * spread
    np.testing.assert_allclose(law.mean()[0, 3], weights @ closes, rtol=0, atol=allowed)
    order = np.argsort(closes)
    cumulative = weights[order].cumsum()
    for level, value in zip(LEVELS, law.quantiles(LEVELS)[0, :, 3], strict=True):
        places = np.searchsorted(cumulative, [level - 0.02, level + 0.02])
        near = closes[order][np.minimum(places, len(order) - 1)]
        assert near[0] - 1e-3 <= value <= near[1] + 1e-3


def test_the_first_step_is_that_of_many_samples(decided: KronosPredictor) -> None:
    frame = random_bars(BARS)
    drawn = decided.predict_paths(frame, pred_len=1, sample_count=20_000, seed=3, draws="independent")[0, :, 0, 3]
    law = decided.first_step(frame)
    error = drawn.std() / np.sqrt(len(drawn))
    assert abs(law.mean()[0, 3] - drawn.mean()) < 5 * error
    for level, value in zip(LEVELS, law.quantiles(LEVELS)[0, :, 3], strict=True):
        assert (drawn < value - 1e-3).mean() - 0.02 <= level <= (drawn <= value + 1e-3).mean() + 0.02


def test_a_forecast_reads_its_first_step_from_the_law_whatever_the_seed_and_the_batch(
    decided: KronosPredictor,
) -> None:
    frames = [random_bars(BARS, seed=i) for i in range(3)]
    options: dict[str, Any] = {"pred_len": 4, "sample_count": 30}
    one, other = (decided.forecast(frames, seed=seed, **options) for seed in (1, 2))
    law = decided.first_step(frames)
    for result in (one, other):
        assert result.first_step is not None
        np.testing.assert_array_equal(result.first_step.values, law.values)
        np.testing.assert_array_equal(result.quantiles(LEVELS)[:, :, 0], law.quantiles(LEVELS))
    assert not np.array_equal(one.quantiles(LEVELS)[:, :, 1], other.quantiles(LEVELS)[:, :, 1])
    alone = decided.forecast(frames[1], seed=1, **options)
    np.testing.assert_array_equal(alone.quantiles(LEVELS)[0], one.quantiles(LEVELS)[1])
    independent = decided.forecast(frames, seed=1, draws="independent", **options)
    assert independent.first_step is None
    with pytest.raises(InputError, match="even"):
        decided.forecast(frames, draws="even", **options)  # type: ignore[arg-type]


def test_first_steps_found_side_by_side_are_those_found_one_by_one(
    decided: KronosPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos.inference.first_step.PAIRS_AT_ONCE", 1)
    frames = [random_bars(BARS, seed=i) for i in range(5)]
    one_by_one = decided.first_step(frames)
    monkeypatch.setattr("kronos.inference.first_step.THREADS", {decided.device.type: 3})
    beside = decided.first_step(frames)
    np.testing.assert_array_equal(beside.values, one_by_one.values)
    np.testing.assert_array_equal(beside.probabilities, one_by_one.probabilities)


def test_stratified_paths_are_nearer_to_the_law_than_independent_ones(decided: KronosPredictor) -> None:
    """Root mean squared error of the mean of 32 paths, over 60 seeds; a draw by itself is unbiased."""
    frame = random_bars(BARS)
    exact, errors = decided.first_step(frame).mean()[0, 3], {}
    for draws in ("stratified", "independent"):
        means = [
            decided.predict_paths(frame, pred_len=2, sample_count=32, seed=seed, draws=draws)[0, :, 0, 3].mean()
            for seed in range(60)
        ]
        errors[draws] = np.sqrt(np.mean((np.array(means) - exact) ** 2))
    assert errors["stratified"] < 0.5 * errors["independent"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.integers(1, 40))
def test_points_represent_the_whole_distribution(weights: list[float], points: int) -> None:
    found = np.array(weights) + 1e-9
    places, probabilities, exact = spread_points(found, points)
    assert len(places) == len(probabilities) == points or len(weights) < points
    assert probabilities.min() >= 0
    assert probabilities.sum() == pytest.approx(1)
    assert -1e-9 <= exact <= 1 + 1e-9
    # Every stretch of the order has its probability, up to one point's weight at either end.
    own, given_weights = np.zeros(len(found)), found / found.sum()
    np.add.at(own, places, probabilities)
    least = probabilities[probabilities > 0].min()
    assert np.abs(np.cumsum(own) - np.cumsum(given_weights)).max() <= least + 1e-9


@given(st.integers(0, 2**62), st.integers(1, 60), st.integers(1, 50))
def test_stratified_draws_are_even_and_extensible(seed: int, paths: int, steps: int) -> None:
    few, many = (stratified_draws([seed], n, steps)[0].numpy() for n in (paths, 64))
    np.testing.assert_array_equal(few[:, 0], many[:paths, 0])
    assert few.min() >= 0 and few.max() < 1
    for step in range(min(steps, SOBOL_DIMENSIONS)):
        assert sorted((many[:, step, 0] * 64).astype(int)) == list(range(64))


def test_an_order_permutes_the_draws_and_no_probability() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(4000, -1)
    uniform = torch.arange(4000) / 4000
    order = torch.tensor([[2, 0, 3, 1]]).expand(4000, -1)
    plain, ordered = (sample_tokens(logits, uniform, Sampling(), one) for one in (None, order))
    torch.testing.assert_close(torch.bincount(plain), torch.bincount(ordered), rtol=0, atol=2)
    assert torch.equal(torch.unique_consecutive(ordered), order[0])


def test_the_static_step_draws_in_the_order_of_the_groups(tiny_model: Kronos) -> None:
    from kronos.inference.cuda_graph import CapturedGenerate

    engine = PredictorEngine(tiny_model)
    drawn = []
    for decode in (generate, CapturedGenerate(lambda static: static.step)):
        generator = torch.Generator().manual_seed(5)
        s1, s2 = (torch.randint(0, 64, (2, 20), generator=generator) for _ in range(2))
        order = torch.stack([torch.randperm(64, generator=generator) for _ in range(2)])
        stamps = torch.from_numpy(random_stamps(2, 28))
        group = SeriesGroup(s1, s2, stamps, stratified_draws([1, 2], 5, 8), order)
        with torch.inference_mode():
            decode(engine, [group], max_context=64, sampling=Sampling())
        drawn.append(group.tokens)
    assert torch.equal(*drawn)


def test_windows_mix_their_first_steps(tiny_predictor: KronosPredictor) -> None:
    frame, options = random_bars(40), {"pred_len": 4, "sample_count": 10, "seed": 1}
    pooled: Any = tiny_predictor.forecast(frame, windows=[40, 20], **options)  # type: ignore[arg-type]
    parts = [tiny_predictor.first_step(frame.iloc[-bars:]) for bars in (40, 20)]
    assert isinstance(pooled.first_step, FirstStepLaw)
    np.testing.assert_allclose(pooled.first_step.mean(), (parts[0].mean() + parts[1].mean()) / 2, rtol=1e-6)
    moved: Any = tiny_predictor.forecast(frame, windows=[20, (20, 2)], **options)  # type: ignore[arg-type]
    assert moved.first_step is None


def test_a_long_history_has_the_first_step_of_its_last_window(
    tiny_model: Kronos, tiny_tokenizer: KronosTokenizer
) -> None:
    predictor = KronosPredictor(tiny_model, tiny_tokenizer, "cpu", max_context=16, overflow="hop")
    with pytest.warns(UserWarning, match="max_context"):
        result = predictor.forecast(random_bars(30), pred_len=6, sample_count=2000, seed=1, draws="stratified")
    assert result.first_step is not None
    drawn = result.paths[0, :, 0, 3]
    assert abs(result.first_step.mean()[0, 3] - drawn.mean()) < 0.1 * drawn.std()
