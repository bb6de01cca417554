"""Generation: the cache, the shared prefix, the sampling of tokens and the summaries of paths."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.mstats import hdquantiles

from kronos import InputError, Kronos, KronosPredictor, KronosTokenizer, PathResult, Sampling
from kronos.inference.engine import PredictorEngine, TokenizerEngine
from kronos.inference.generate import Overflow, SeriesGroup, generate, window_start
from kronos.inference.kv_cache import attention, merge_attention, partial_attention, short_attention
from kronos.inference.packed_linear import Precision
from kronos.inference.sampling import nucleus_threshold, sample_tokens, uniform_draws
from kronos.path_forecast import project_bars
from tests.kronos.kronos_pairs import random_bars, random_stamps


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**31))
def test_merged_attention_equals_attention_over_all_keys(queries: int, first: int, second: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, n, 8, generator=generator) for n in (queries, first + second, first + second))
    parts = (partial_attention(q, k[:, :, a:b], v[:, :, a:b]) for a, b in ((0, first), (first, first + second)))
    merged = merge_attention(*(value for part in parts for value in part))
    torch.testing.assert_close(merged, attention(q, k, v), atol=2e-6, rtol=1e-5)


@given(st.integers(1, 6), st.integers(1, 20))
def test_short_attention_equals_attention(rows: int, keys: int) -> None:
    q, k, v = torch.randn(rows, 3, 8), torch.randn(keys, rows, 3, 8), torch.randn(keys, rows, 3, 8)
    out, lse = short_attention(q, k, v)
    expected, expected_lse = partial_attention(q.unsqueeze(2), k.permute(1, 2, 0, 3), v.permute(1, 2, 0, 3))
    torch.testing.assert_close(out, expected.squeeze(2), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(lse, expected_lse.squeeze(2), atol=2e-6, rtol=1e-5)


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 24), st.integers(1, 3), st.booleans())
def test_cached_generation_draws_the_tokens_of_a_full_forward(
    tiny_model: Kronos, length: int, horizon: int, paths: int, greedy: bool
) -> None:
    """Every drawn token equals that of the uncached modules, run over the full window, for the same uniform."""
    context = 32
    s1, s2 = torch.randint(0, 64, (2, length)), torch.randint(0, 64, (2, length))
    stamps = torch.from_numpy(random_stamps(2, length + horizon))
    sampling = Sampling(temperature=0.0 if greedy else 1.0)
    window = min(length, context)
    group = SeriesGroup(
        s1[:, -window:], s2[:, -window:], stamps[:, -(window + horizon) :], uniform_draws([1, 2], paths, horizon)
    )
    with torch.inference_mode():
        generate(PredictorEngine(tiny_model), [group], max_context=context, sampling=sampling)
        tokens = group.tokens
        for series in range(2):
            for path in range(paths):
                own = tokens[series, path]
                full = [torch.cat((past[series], own[:, half])) for half, past in enumerate((s1, s2))]
                for step in range(horizon):
                    end = length + step
                    part = slice(max(0, end - context), end)
                    own_stamps = stamps[series : series + 1, part]
                    logits, hidden = tiny_model.decode_s1(full[0][None, part], full[1][None, part], own_stamps)
                    u = group.uniform[series, path, step]
                    expected = sample_tokens(logits[:, -1], u[:1], sampling)
                    assert own[step, 0] == expected
                    s2_logits = tiny_model.decode_s2(hidden, expected[None])[:, -1]
                    assert own[step, 1] == sample_tokens(s2_logits, u[1:], sampling)


@given(st.integers(1, 30), st.integers(1, 10), st.integers(1, 3))
@settings(max_examples=20)
def test_decoding_over_a_shared_prefix_equals_decoding_each_path(
    tiny_tokenizer: KronosTokenizer, prefix: int, steps: int, paths: int
) -> None:
    history = [torch.randint(0, 64, (2, prefix)) for _ in range(2)]
    own = [torch.randint(0, 64, (2, paths, steps)) for _ in range(2)]
    with torch.inference_mode():
        bars = TokenizerEngine(tiny_tokenizer).decode(*history, *own)
        for path in range(paths):
            s1, s2 = (torch.cat((a, b[:, path]), dim=1) for a, b in zip(history, own, strict=True))
            expected = tiny_tokenizer.decode((s1, s2), half=True)[:, prefix:]
            torch.testing.assert_close(bars[:, path], expected, atol=1e-5, rtol=0)


def test_hop_never_exceeds_max_context() -> None:
    for length in (10, 30, 32, 50):
        for horizon in (1, 5, 31):
            step = 0
            while step < horizon:
                start, covered = window_start(length, step, horizon, 32, "hop")
                assert covered >= 1
                assert start >= 0
                assert length + step + covered - 1 - start <= 32
                step += covered
    assert window_start(32, 0, 4, 32, "exact") == (0, 1)
    assert window_start(20, 0, 5, 32, "hop") == (0, 5)


def test_hop_is_exact_within_max_context(tiny_model: Kronos, tiny_tokenizer: KronosTokenizer) -> None:
    exact, hop = (
        KronosPredictor(tiny_model, tiny_tokenizer, device="cpu", max_context=32, overflow=overflow)
        for overflow in get_args(Overflow)
    )
    for length, same in ((20, True), (32, False)):
        frame = random_bars(length)
        a, b = (p.predict_paths(frame, pred_len=12, sample_count=4, seed=1) for p in (exact, hop))
        assert np.array_equal(a, b) == same
        assert np.isfinite(b).all()


def test_the_nucleus_is_the_published_one() -> None:
    logits = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) * 2
    for top_p in (0.1, 0.5, 0.9, 0.99):
        ordered, order = torch.sort(logits, descending=True)
        removed = ordered.softmax(-1).cumsum(-1) > top_p
        removed[:, 1:] = removed[:, :-1].clone()
        removed[:, 0] = False
        allowed = ~removed.scatter(1, order, removed)
        drawn = torch.stack(
            [
                sample_tokens(logits, torch.full((50,), u), Sampling(top_p=top_p))
                for u in np.linspace(0, 0.99999994, 400)
            ]
        ).T
        for row in range(50):
            assert set(drawn[row].tolist()) <= set(torch.nonzero(allowed[row]).flatten().tolist())


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.5, 2), (0.6, 2), (0.75, 3), (0.8, 3), (0.95, 4)])
def test_the_nucleus_includes_the_token_that_exceeds_top_p(top_p: float, kept: int) -> None:
    """Probabilities that are exact in float32, in no order: 1/2, 1/4, 3/16 and 1/16."""
    weights = torch.tensor([[0.25, 0.0625, 0.5, 0.1875]])
    assert nucleus_threshold(weights, top_p).item() == sorted(weights[0].tolist(), reverse=True)[kept - 1]
    draws = (torch.arange(64) + 0.5) / 64
    drawn = sample_tokens(weights.log().expand(64, -1), draws, Sampling(top_p=top_p))
    if top_p != 0.5 and top_p != 0.75:  # on the edge, the softmax of logarithms may round
        assert set(drawn.tolist()) == set([2, 0, 3, 1][:kept])


def test_draws_have_the_softmax_frequencies() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    u = torch.arange(20_000) / 20_000
    drawn = sample_tokens(logits.expand(20_000, -1), u, Sampling(temperature=0.7))
    frequencies = torch.bincount(drawn, minlength=4) / 20_000
    torch.testing.assert_close(frequencies, (logits[0] / 0.7).softmax(-1), atol=2e-4, rtol=0)
    assert set(sample_tokens(logits.expand(20_000, -1), u, Sampling(top_k=2)).tolist()) == {1, 2}
    assert sample_tokens(logits, torch.tensor([0.5]), Sampling(temperature=0)).item() == 2


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"temperature": np.nan}, {"top_k": -1}, {"top_p": 0}])
def test_invalid_sampling_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Sampling(**wrong)


@given(st.integers(0, 2**31))
def test_projected_bars_are_valid_and_valid_bars_are_unchanged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.normal(1, 2, (3, 4, 5, 6)).astype(np.float32)
    raw[0, 0, 0] = [2, 3, 1, 2.5, 10, 20]
    bars, changed = project_bars(raw, np.full(3, 0.01, np.float32))
    opening, high, low, close = np.moveaxis(bars[..., :4], -1, 0)
    assert (low >= np.float32(0.01)).all()
    assert (low <= np.minimum(opening, close)).all()
    assert (high >= np.maximum(opening, close)).all()
    assert (bars[..., 4:] >= 0).all()
    assert not changed[0, 0, 0]
    np.testing.assert_array_equal(bars[~changed], raw[~changed])


def test_mean_quantiles_and_probability_summarise_the_paths() -> None:
    paths = np.arange(2 * 5 * 3 * 6, dtype=np.float32).reshape(2, 5, 3, 6)
    result = PathResult(paths, np.zeros(2, np.float32), True, np.zeros((2, 5, 3, 2), np.int64))
    np.testing.assert_allclose(result.mean(), paths.mean(1))
    np.testing.assert_allclose(result.quantiles([0.9, 0.5], "median_unbiased")[:, 1], np.median(paths, axis=1))
    with pytest.raises(InputError, match="type7"):
        result.quantiles([0.5], "type7")  # type: ignore[arg-type]
    median = float(np.median(paths[0, :, -1, 3]))
    np.testing.assert_allclose(result.probability(median), [0.4, 1.0])
    np.testing.assert_allclose(result.probability(np.array([median, 1e9]), side="below"), [0.4, 1.0])
    price = 100.1  # its float32 is larger
    still = PathResult(np.full((1, 2, 1, 6), price, np.float32), np.zeros(1, np.float32), True, result.tokens[:1, :2])
    assert still.probability(price) == still.probability(np.array([price])) == 0
    assert still.probability(price, side="below") == still.probability(np.array([price]), side="below") == 0
    invalid: list[dict[str, Any]] = [{"field": "price"}, {"step": 3}, {"step": 1.5}, {"step": "1"}, {"side": "over"}]
    for wrong in invalid:
        with pytest.raises(InputError, match=next(iter(wrong))):
            result.probability(1.0, **wrong)
    np.testing.assert_array_equal(result.probability(-np.inf), [1, 1])
    np.testing.assert_array_equal(result.probability(1e300), [0, 0])
    not_numbers: list[Any] = [np.nan, None, "100", [1.0, np.nan], [[1.0], [1.0, 2.0]]]
    for level in not_numbers:
        with pytest.raises(InputError, match="level"):
            result.probability(level)
    wrong_shapes: list[Any] = [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]]
    for level in wrong_shapes:
        with pytest.raises(InputError, match=r"level .*2 series"):
            result.probability(level)
    invalid_levels: list[Any] = [[1.5], 0.5, [], ["high"], [np.nan]]
    for levels in invalid_levels:
        with pytest.raises(InputError, match="levels"):
            result.quantiles(levels)


@given(st.integers(1, 40), st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 2**31))
def test_quantiles_are_median_unbiased_and_ordered(paths: int, levels: list[float], seed: int) -> None:
    drawn = np.random.default_rng(seed).normal(100, 1, (2, paths, 3, 6)).astype(np.float32)
    drawn[:, :, 0] = drawn[:, :1, 0]
    result = PathResult(drawn, np.zeros(2, np.float32), True, np.zeros((2, paths, 3, 2), np.int64))
    found = result.quantiles(levels, "median_unbiased")
    expected = np.quantile(drawn.astype(np.float64), levels, axis=1, method="median_unbiased")
    np.testing.assert_allclose(found, np.moveaxis(expected, 0, 1), rtol=1e-6)
    assert (np.diff(found[:, np.argsort(levels)], axis=1) >= 0).all()
    np.testing.assert_array_equal(found[:, :, 0], np.broadcast_to(drawn[:, :1, 0], found[:, :, 0].shape))
    inner = [level for level in levels if 1e-6 < level < 1 - 1e-6]
    if inner:
        weighted = result.quantiles(inner)
        reference = hdquantiles(drawn[0, :, 1, 3].astype(np.float64), inner)
        np.testing.assert_allclose(weighted[0, :, 1, 3], reference, rtol=1e-6)
        np.testing.assert_array_equal(weighted[:, :, 0], np.broadcast_to(drawn[:, :1, 0], weighted[:, :, 0].shape))


def test_the_other_methods_return_summaries_of_forecast(tiny_predictor: KronosPredictor) -> None:
    frames = [random_bars(20), random_bars(15, seed=1)]
    options: dict[str, Any] = {"pred_len": 4, "sample_count": 6, "top_p": 0.9, "seed": 3}
    result = tiny_predictor.forecast(frames, **options)
    np.testing.assert_array_equal(result.paths, tiny_predictor.predict_paths(frames, **options))
    quantiles = tiny_predictor.predict_quantiles(frames, levels=[0.1, 0.5], **options)
    np.testing.assert_array_equal(result.quantiles([0.1, 0.5]), quantiles)
    for mean, index, forecast in zip(
        result.mean(), result.index, tiny_predictor.predict_batch(frames, **options), strict=True
    ):
        np.testing.assert_array_equal(mean, forecast.to_numpy())
        assert list(index) == list(forecast.index)
    last = [frame["close"].iloc[-1] for frame in frames]
    expected = (result.paths[:, :, -1, 3] > np.asarray(last, np.float32)[:, None]).mean(axis=1)
    np.testing.assert_array_equal(result.probability(last), expected)
    assert result.projection_rate.shape == (2,)
    np.testing.assert_array_equal(tiny_predictor.forecast(frames[0], **options).paths[0], result.paths[0])


def test_bf16_and_int8_are_close_to_fp32(tiny_model: Kronos) -> None:
    s1, s2 = torch.randint(0, 64, (4, 30)), torch.randint(0, 64, (4, 30))
    time = torch.zeros(4, 30, 48)
    results: dict[Precision, torch.Tensor] = {}
    for precision in get_args(Precision):
        try:
            engine = PredictorEngine(tiny_model, precision)
        except RuntimeError as error:
            pytest.skip(str(error))
        results[precision] = engine.prefill(s1, s2, time, engine.new_caches(4, 1, 30, 1))
    exact = results.pop("fp32")
    for result in results.values():
        assert 0 < (result - exact).norm() / exact.norm() < 0.05
