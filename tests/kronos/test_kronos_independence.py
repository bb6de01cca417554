"""A series' forecast depends on its own bars, stamps and seed, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kronos_pairs import TINY, TINY_TOKENIZER, random_bars, random_stamps

from kronos import Kronos, KronosPredictor, KronosTokenizer, PathResult
from kronos.plan import split

CONTEXT = 32


@pytest.fixture(scope="module", params=["fp32", "int8"])
def predictor(request: pytest.FixtureRequest) -> KronosPredictor:
    torch.manual_seed(3)
    models = Kronos(config=TINY).eval(), KronosTokenizer(config=TINY_TOKENIZER).eval()
    try:
        return KronosPredictor(*models, device="cpu", max_context=CONTEXT, precision=request.param)
    except ValueError as error:
        pytest.skip(str(error))


def sample(
    predictor: KronosPredictor, which: list[int], lengths: list[int], horizon: int, paths: int, **options: float
) -> PathResult:
    return predictor.sample_paths(
        [random_bars(lengths[i], seed=i).to_numpy() for i in which],
        [random_stamps(lengths[i], seed=i) for i in which],
        [random_stamps(horizon, seed=100 + i) for i in which],
        horizon,
        paths=paths,
        seeds=[1000 + i for i in which],
        **options,
    )


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, CONTEXT + 6), min_size=2, max_size=5),
    horizon=st.integers(1, 8),
    paths=st.integers(1, 4),
    top_p=st.sampled_from([1.0, 0.9]),
    data=st.data(),
)
def test_batch_order_and_chunks_change_no_bit(
    predictor: KronosPredictor, lengths: list[int], horizon: int, paths: int, top_p: float, data: st.DataObject
) -> None:
    everything = list(range(len(lengths)))
    order = data.draw(st.permutations(everything))
    together = sample(predictor, everything, lengths, horizon, paths, top_p=top_p)
    shuffled = sample(predictor, order, lengths, horizon, paths, top_p=top_p)
    predictor.memory_budget, kept = 1, predictor.memory_budget
    try:
        one_by_one = sample(predictor, everything, lengths, horizon, paths, top_p=top_p)
    finally:
        predictor.memory_budget = kept
    np.testing.assert_array_equal(shuffled.paths, together.paths[order])
    np.testing.assert_array_equal(one_by_one.paths, together.paths)
    for i in everything:
        alone = sample(predictor, [i], lengths, horizon, paths, top_p=top_p)
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[i])
        np.testing.assert_array_equal(alone.paths[0], together.paths[i])


def test_bars_after_the_origin_do_not_exist_for_a_forecast(predictor: KronosPredictor) -> None:
    bars, stamps = random_bars(40).to_numpy(), random_stamps(45)
    changed = bars.copy()
    changed[30:] *= 7
    results = [
        predictor.sample_paths([values[:30]], [stamps[:30]], [stamps[30:35]], 5, paths=3, seeds=[1]).paths
        for values in (bars, changed)
    ]
    np.testing.assert_array_equal(*results)


def test_the_seed_decides_and_more_paths_keep_the_first_ones(predictor: KronosPredictor) -> None:
    few, again, many = (sample(predictor, [0], [20], 6, paths) for paths in (2, 2, 7))
    np.testing.assert_array_equal(few.paths, again.paths)
    np.testing.assert_array_equal(few.tokens[0], many.tokens[0, :2])
    assert len({tuple(path.ravel()) for path in many.tokens[0]}) == 7


def test_one_seed_serves_a_batch_of_frames_in_any_order(tiny_predictor: KronosPredictor) -> None:
    frames = [random_bars(20, seed=i) for i in range(3)]
    forward = tiny_predictor.predict_paths(frames, pred_len=4, sample_count=3, seed=7)
    backward = tiny_predictor.predict_paths(frames[::-1], pred_len=4, sample_count=3, seed=7)
    np.testing.assert_array_equal(forward, backward[::-1])
    alone = tiny_predictor.predict(frames[1], pred_len=4, sample_count=3, top_p=1.0, seed=7)
    np.testing.assert_array_equal(alone.to_numpy(), forward[1].mean(axis=0))
    other = tiny_predictor.predict_paths(frames, pred_len=4, sample_count=3, seed=8)
    assert not np.array_equal(other, forward)


def test_new_weights_are_used_at_once(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(20)
    before = tiny_predictor.predict_paths(frame, pred_len=3, seed=1)
    weight = tiny_predictor.model.head.proj_s1.bias
    with torch.no_grad():
        weight.add_(torch.linspace(0, 20, len(weight)))
    after = tiny_predictor.predict_paths(frame, pred_len=3, seed=1)
    with torch.no_grad():
        weight.sub_(torch.linspace(0, 20, len(weight)))
    assert not np.array_equal(before, after)


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 60), st.integers(1, 30))
def test_a_plan_holds_every_series_once_and_keeps_the_budget(lengths: list[int], paths: int, budget: int) -> None:
    jobs = split(lengths, bytes_of=lambda length: length, paths=paths, budget=budget)
    assert sorted(i for job in jobs for members in job for i in members) == list(range(len(lengths)))
    for job in jobs:
        series = [i for members in job for i in members]
        assert len(series) == 1 or sum(lengths[i] for i in series) <= budget
        for members in job:
            assert len({lengths[i] for i in members}) == 1
