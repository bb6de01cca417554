"""A series' forecast depends on its own bars, timestamps and seed only."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronos import Kronos, KronosPredictor, KronosTokenizer, PathResult, cpu_kernels
from kronos.inference import packed_linear
from kronos.inference.batching import DEFAULT_BUDGET, MAX_PATHS, split_paths, split_series
from kronos.inference.engine import WeightFingerprint
from kronos.inference.generate import SeriesGroup, generate
from kronos.inference.packed_linear import Precision
from tests.kronos.kronos_pairs import TINY, TINY_TOKENIZER, random_bars, random_stamps

CONTEXT = 32
# Some histories are longer than CONTEXT on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::kronos.InputWarning")


def tiny_predictor(precision: Precision, max_context: int = 512) -> KronosPredictor:
    """Always the same tiny models; skips the test where the hardware does not support the precision."""
    torch.manual_seed(3)
    models = Kronos(config=TINY).eval(), KronosTokenizer(config=TINY_TOKENIZER).eval()
    try:
        return KronosPredictor(*models, device="cpu", max_context=max_context, precision=precision)
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def predictor(request: pytest.FixtureRequest) -> KronosPredictor:
    return tiny_predictor(request.param, CONTEXT)


def sample(
    predictor: KronosPredictor, which: list[int], lengths: list[int], horizon: int, paths: int, **options: Any
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
def test_batch_order_and_memory_budget_change_no_bit(
    predictor: KronosPredictor, lengths: list[int], horizon: int, paths: int, top_p: float, data: st.DataObject
) -> None:
    everything = list(range(len(lengths)))
    order = data.draw(st.permutations(everything))
    together = sample(predictor, everything, lengths, horizon, paths, top_p=top_p)
    shuffled = sample(predictor, order, lengths, horizon, paths, top_p=top_p)
    predictor.memory_budget, budget = 1, predictor.memory_budget
    try:
        one_by_one = sample(predictor, everything, lengths, horizon, paths, top_p=top_p)
    finally:
        predictor.memory_budget = budget
    np.testing.assert_array_equal(shuffled.paths, together.paths[order])
    np.testing.assert_array_equal(one_by_one.paths, together.paths)
    for i in everything:
        alone = sample(predictor, [i], lengths, horizon, paths, top_p=top_p)
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[i])
        np.testing.assert_array_equal(alone.paths[0], together.paths[i])


def test_one_series_is_split_by_its_paths(predictor: KronosPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sample(predictor, [0, 1], [20, 9], 6, 50)
    budget = predictor._series_bytes(predictor.engines()[0], 20, 6, 15)
    rows: list[int] = []

    def counted(engine: object, groups: list[SeriesGroup], **options: Any) -> None:
        rows.append(sum(group.rows for group in groups))
        generate(engine, groups, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("kronos.inference.pipeline.DEFAULT_BUDGET", budget)
    monkeypatch.setattr(predictor, "_generate", counted)
    split = sample(predictor, [0, 1], [20, 9], 6, 50)
    assert sum(rows) == 100 and len(rows) > 4 and max(rows) <= 18
    np.testing.assert_array_equal(split.tokens, whole.tokens)
    np.testing.assert_allclose(split.paths, whole.paths, rtol=1e-5)
    monkeypatch.setattr(predictor, "memory_budget", 1)
    np.testing.assert_array_equal(sample(predictor, [0, 1], [20, 9], 6, 50).paths, split.paths)


@pytest.mark.parametrize("budget", [1, DEFAULT_BUDGET])
def test_many_paths_are_decoded_in_parts_of_bounded_size(
    predictor: KronosPredictor, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    rows: list[int] = []

    def counted(engine: object, groups: list[SeriesGroup], **options: Any) -> None:
        rows.extend(group.paths for group in groups)
        generate(engine, groups, **options)  # type: ignore[arg-type]

    predictor.engines()
    monkeypatch.setattr(predictor, "_generate", counted)
    monkeypatch.setattr(predictor, "memory_budget", budget)
    for paths, parts in ((MAX_PATHS, 1), (MAX_PATHS + 1, 2), (3 * MAX_PATHS, 3)):
        rows.clear()
        sample(predictor, [0], [9], 2, paths)
        assert len(rows) == parts and max(rows) <= MAX_PATHS and sum(rows) == paths


def test_split_paths_depend_on_neither_batch_nor_budget(
    predictor: KronosPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos.inference.pipeline.MAX_PATHS", 7)
    lengths = [20, 9, 20]
    together = sample(predictor, [0, 1, 2], lengths, 5, 20)
    monkeypatch.setattr(predictor, "memory_budget", 1)
    np.testing.assert_array_equal(sample(predictor, [0, 1, 2], lengths, 5, 20).paths, together.paths)
    for i in range(3):
        np.testing.assert_array_equal(sample(predictor, [i], lengths, 5, 20).paths[0], together.paths[i])


@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 300), st.integers(1, 400), st.integers(1, 90))
def test_parts_contain_every_path_once_within_the_budget(
    paths: int, each: int, fixed: int, budget: int, most: int
) -> None:
    parts = split_paths(paths, bytes_of=lambda n: fixed + n * each, budget=budget, max_paths=most)
    assert all(part.stop - part.start <= most for part in parts)
    assert [path for part in parts for path in range(part.start, part.stop)] == list(range(paths))
    assert all(part.stop - part.start == 1 or fixed + (part.stop - part.start) * each <= budget for part in parts)


def test_bars_after_the_origin_do_not_change_a_forecast(predictor: KronosPredictor) -> None:
    bars, stamps = random_bars(40).to_numpy(), random_stamps(45)
    changed = bars.copy()
    changed[30:] *= 7
    results = [
        predictor.sample_paths([values[:30]], [stamps[:30]], [stamps[30:35]], 5, paths=3, seeds=[1]).paths
        for values in (bars, changed)
    ]
    np.testing.assert_array_equal(results[0], results[1])


def test_a_forecast_is_reproducible_and_more_paths_keep_the_first_ones(predictor: KronosPredictor) -> None:
    few, again, many = (sample(predictor, [0], [20], 6, paths) for paths in (2, 2, 7))
    np.testing.assert_array_equal(few.paths, again.paths)
    np.testing.assert_array_equal(few.tokens[0], many.tokens[0, :2])
    assert len({tuple(path.ravel()) for path in many.tokens[0]}) == 7


def test_one_seed_gives_each_frame_the_same_paths_in_any_order(tiny_predictor: KronosPredictor) -> None:
    frames = [random_bars(20, seed=i) for i in range(3)]
    forward = tiny_predictor.predict_paths(frames, pred_len=4, sample_count=3, seed=7)
    backward = tiny_predictor.predict_paths(frames[::-1], pred_len=4, sample_count=3, seed=7)
    np.testing.assert_array_equal(forward, backward[::-1])
    alone = tiny_predictor.predict(frames[1], pred_len=4, sample_count=3, top_p=1.0, seed=7)
    np.testing.assert_array_equal(alone.to_numpy(), forward[1].mean(axis=0))
    other = tiny_predictor.predict_paths(frames, pred_len=4, sample_count=3, seed=8)
    assert not np.array_equal(other, forward)


def test_changed_weights_are_used_at_the_next_forecast(tiny_predictor: KronosPredictor) -> None:
    frame = random_bars(20)
    before = tiny_predictor.predict_paths(frame, pred_len=3, seed=1)
    weight = tiny_predictor.model.head.proj_s1.bias
    with torch.no_grad():
        weight.add_(torch.linspace(0, 20, len(weight)))
    after = tiny_predictor.predict_paths(frame, pred_len=3, seed=1)
    with torch.no_grad():
        weight.sub_(torch.linspace(0, 20, len(weight)))
    assert not np.array_equal(before, after)


def joblib_round(predictor: KronosPredictor) -> KronosPredictor:
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(predictor, file)
    file.seek(0)
    return joblib.load(file)  # type: ignore[no-any-return]


def write_fused(weights: list[torch.nn.Parameter]) -> None:
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    torch.optim.AdamW(weights, lr=0.05, fused=True).step()


def write_data(weights: list[torch.nn.Parameter]) -> None:
    for weight in weights:
        weight.data.mul_(0.5)


def write_one_entry(weights: list[torch.nn.Parameter]) -> None:
    next(weight for weight in weights if weight.ndim == 1).data[3] += 10


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("write", [write_fused, write_data, write_one_entry])
@pytest.mark.parametrize("part", ["model.time_emb", "model.transformer", "model.head", "tokenizer.decoder"])
def test_writes_that_torch_does_not_count_are_detected(
    write: Callable[[list[torch.nn.Parameter]], None], part: str, precision: Precision
) -> None:
    predictor = tiny_predictor(precision)
    models = predictor.model, predictor.tokenizer
    weights = list(attrgetter(part)(predictor).parameters())
    if write is write_one_entry and part == "model.time_emb":
        pytest.skip("it has matrices only")
    frame = random_bars(20)
    before = predictor.predict_paths(frame, pred_len=4, seed=1)
    engines, counts = predictor.engines(), [weight._version for weight in weights]
    write(weights)
    assert [weight._version for weight in weights] == counts
    after = predictor.predict_paths(frame, pred_len=4, seed=1)
    fresh = KronosPredictor(*models, device="cpu", precision=precision).predict_paths(frame, pred_len=4, seed=1)
    np.testing.assert_array_equal(after, fresh)
    assert not np.array_equal(after, before)
    assert predictor.engines() is not engines
    assert predictor.engines() is predictor.engines()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda p: pickle.loads(pickle.dumps(p)), joblib_round])
def test_a_predictor_that_has_forecast_can_be_copied(
    again: Callable[[KronosPredictor], KronosPredictor], precision: Precision
) -> None:
    predictor, frame = tiny_predictor(precision), random_bars(20)
    before = predictor.predict_paths(frame, pred_len=4, seed=1)
    engines = predictor.engines()
    np.testing.assert_array_equal(again(predictor).predict_paths(frame, pred_len=4, seed=1), before)
    assert predictor.engines() is engines


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_models_of_another_float_type_forecast_in_float32(dtype: torch.dtype, precision: Precision) -> None:
    predictor, frame = tiny_predictor(precision), random_bars(20)
    models = predictor.model.to(dtype), predictor.tokenizer.to(dtype)
    forecast = predictor.predict_paths(frame, pred_len=4, seed=1)
    single = copy.deepcopy(models[0]).float(), copy.deepcopy(models[1]).float()
    expected = KronosPredictor(*single, device="cpu", precision=precision).predict_paths(frame, pred_len=4, seed=1)
    np.testing.assert_array_equal(forecast, expected)
    assert {weight.dtype for model in models for weight in model.parameters()} == {dtype}
    engines = predictor.engines()
    assert predictor.engines() is engines


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_packed_weights_share_no_memory_with_the_models(
    precision: Precision, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_linear, "HAS_ONEDNN", onednn and cpu_kernels.HAS_ONEDNN)
    predictor = tiny_predictor(precision)
    models = predictor.model, predictor.tokenizer
    engines = predictor.engines()
    monkeypatch.setattr(predictor, "engines", lambda: engines)
    frame = random_bars(20)
    before = predictor.predict_paths(frame, pred_len=4, seed=1)
    for model in models:
        for weight in model.parameters():
            weight.data.zero_()
    np.testing.assert_array_equal(predictor.predict_paths(frame, pred_len=4, seed=1), before)


def test_changes_of_nan_and_non_contiguous_weights_are_detected() -> None:
    first, second = torch.nn.Linear(100, 90), torch.nn.Linear(90, 100)
    model = torch.nn.Sequential(first, second)
    first.weight.data[0, 0] = torch.nan
    second.weight = torch.nn.Parameter(torch.randn(90, 100).t())
    fingerprint = WeightFingerprint(model)
    assert not fingerprint.changed(model)
    second.weight.data[7, 7] += 1
    assert fingerprint.changed(model)
    fingerprint = WeightFingerprint(model)
    first.weight.data = first.weight.data.clone()
    assert fingerprint.changed(model)


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 60), st.integers(1, 30))
def test_batches_contain_every_series_once_within_the_budget(lengths: list[int], paths: int, budget: int) -> None:
    batches = split_series(lengths, bytes_of=lambda length: length, paths=paths, budget=budget)
    assert sorted(i for batch in batches for members in batch for i in members) == list(range(len(lengths)))
    for batch in batches:
        series = [i for members in batch for i in members]
        assert len(series) == 1 or sum(lengths[i] for i in series) <= budget
        for members in batch:
            assert len({lengths[i] for i in members}) == 1
