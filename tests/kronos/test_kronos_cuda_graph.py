"""The step that CUDA graphs capture, run on the CPU: the same tokens as with growing caches."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from kronos import Kronos, KronosPredictor, KronosTokenizer, Sampling
from kronos.inference.cuda_graph import CapturedGenerate, StaticDecode, StaticShape
from kronos.inference.engine import PredictorEngine, TokenizerEngine
from kronos.inference.generate import SeriesGroup, generate
from kronos.inference.packed_linear import Precision
from kronos.inference.sampling import uniform_draws
from tests.kronos.kronos_pairs import TINY, TINY_TOKENIZER, random_bars, random_stamps

CONTEXT = 128
SAMPLINGS = (
    Sampling(),
    Sampling(top_p=0.9),
    Sampling(temperature=0.7, top_p=0.6),
    Sampling(top_k=5),
    Sampling(temperature=0.0),
)


@pytest.fixture(scope="module")
def engine(tiny_model: Kronos) -> PredictorEngine:
    with torch.no_grad():
        return PredictorEngine(tiny_model)


def some_groups(
    counts: Sequence[int], lengths: Sequence[int], horizon: int, paths: int, seed: int = 0
) -> list[SeriesGroup]:
    """One group per length, with its own tokens, calendar features and draws."""
    generator = torch.Generator().manual_seed(seed)
    return [
        SeriesGroup(
            torch.randint(0, 64, (count, length), generator=generator),
            torch.randint(0, 64, (count, length), generator=generator),
            torch.from_numpy(random_stamps(count, length + horizon, seed=seed + place)),
            uniform_draws([1000 * seed + 100 * place + i for i in range(count)], paths, horizon),
        )
        for place, (count, length) in enumerate(zip(counts, lengths, strict=True))
    ]


def step_by_step(decode: StaticDecode) -> Callable[[], None]:
    """Changes the buffers as a capture does, without the graph."""
    for _ in range(3):
        decode.position.fill_(-1)
        decode.step()
    return decode.step


def recorded_capture(shapes: list[StaticShape]) -> Callable[[StaticDecode], Callable[[], None]]:
    """`step_by_step`, which also appends each captured shape to `shapes`."""

    def capture(decode: StaticDecode) -> Callable[[], None]:
        shapes.append(decode.shape)
        return step_by_step(decode)

    return capture


def both(
    engine: PredictorEngine,
    static: CapturedGenerate,
    sampling: Sampling,
    counts: Sequence[int],
    lengths: Sequence[int],
    horizon: int,
    paths: int,
    seed: int = 0,
) -> tuple[list[SeriesGroup], list[SeriesGroup]]:
    """The same groups decoded with static and with growing caches."""
    ours, expected = (some_groups(counts, lengths, horizon, paths, seed) for _ in range(2))
    with torch.inference_mode():
        static(engine, ours, max_context=CONTEXT, sampling=sampling)
        generate(engine, expected, max_context=CONTEXT, sampling=sampling)
    return ours, expected


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        ([1], [1], 2, 1),
        ([1], [40], 30, 7),
        ([3], [64], 20, 1),
        ([2, 1, 3], [5, 64, 65], 12, 4),
        ([1, 2], [100, 30], 29, 3),  # the last step fills max_context
    ],
    ids=str,
)
def test_the_static_step_draws_the_tokens_of_the_growing_caches(
    engine: PredictorEngine, sampling: Sampling, shape: tuple[list[int], list[int], int, int]
) -> None:
    ours, expected = both(engine, CapturedGenerate(step_by_step), sampling, *shape)
    for mine, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine.tokens, reference.tokens, rtol=0, atol=0)


def test_the_static_step_computes_the_hidden_states_of_the_growing_caches(
    engine: PredictorEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens may agree by chance; the numbers before the draw must agree, too."""
    contexts: list[torch.Tensor] = []
    s1_logits = engine.s1_logits

    def recorded(context: torch.Tensor) -> torch.Tensor:
        contexts.append(context)
        return s1_logits(context)

    monkeypatch.setattr(engine, "s1_logits", recorded)
    both(engine, CapturedGenerate(lambda decode: decode.step), Sampling(), [2, 1], [20, 50], 15, 3)
    assert len(contexts) == 30
    for mine, reference in zip(contexts[:15], contexts[15:], strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-5)


def test_reused_buffers_keep_nothing_of_the_last_forecast(engine: PredictorEngine) -> None:
    captures: list[StaticShape] = []
    static = CapturedGenerate(recorded_capture(captures))
    for lengths, seed in (([60, 50], 1), ([7, 3], 2), ([33, 64], 3)):
        ours, expected = both(engine, static, Sampling(top_p=0.9), [1, 2], lengths, 9, 3, seed=seed)
        for mine, reference in zip(ours, expected, strict=True):
            torch.testing.assert_close(mine.tokens, reference.tokens, rtol=0, atol=0)
    assert captures == [StaticShape(series=3, paths=3, prefix=64, horizon=9)]
    both(engine, static, Sampling(top_k=3), [1, 2], [60, 50], 9, 3)
    both(engine, static, Sampling(top_k=3), [1, 2], [60, 50], 10, 3)
    assert len(captures) == 3


def test_full_batches_and_the_rest_are_each_captured_once(engine: PredictorEngine) -> None:
    captures: list[StaticShape] = []
    static = CapturedGenerate(recorded_capture(captures))
    for seed in range(2):  # two forecasts of 3, 3 and 1 series
        for series in (3, 3, 1):
            ours, expected = both(engine, static, Sampling(), [series], [40], 6, 2, seed=seed)
            torch.testing.assert_close(ours[0].tokens, expected[0].tokens, rtol=0, atol=0)
    assert [shape.series for shape in captures] == [3, 1]
    both(engine, static, Sampling(), [2], [40], 6, 2)
    both(engine, static, Sampling(), [3], [40], 6, 2)
    assert [shape.series for shape in captures] == [3, 1, 2, 3]  # two are kept, no more


def test_threads_that_share_a_predictor_do_not_share_its_buffers(
    tiny_model: Kronos, tiny_tokenizer: KronosTokenizer
) -> None:
    predictor = KronosPredictor(tiny_model, tiny_tokenizer, device="cpu", max_context=CONTEXT)
    frames = [random_bars(40, seed=seed) for seed in range(6)]
    expected = [predictor.predict_paths(frame, pred_len=20, sample_count=5, seed=3) for frame in frames]

    def yielding(decode: StaticDecode) -> Callable[[], None]:
        def step() -> None:
            time.sleep(0.001)  # lets another thread run
            decode.step()

        return step

    predictor._generate = CapturedGenerate(yielding)
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(lambda frame: predictor.predict_paths(frame, pred_len=20, sample_count=5, seed=3), frames)
    np.testing.assert_array_equal(list(found), expected)


def test_a_device_without_memory_decodes_in_halves(
    tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = KronosPredictor(tiny_model, tiny_tokenizer, device="cpu", max_context=CONTEXT)
    frames = [random_bars(length, seed=length) for length in (30, 64, 30)]
    expected = predictor.predict_paths(frames, pred_len=6, sample_count=5, seed=3)
    rows: list[int] = []

    def scarce(decode: StaticDecode) -> Callable[[], None]:
        if decode.shape.series * decode.shape.paths > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        rows.append(decode.shape.series * decode.shape.paths)
        return step_by_step(decode)

    for limit in (4, 1):  # halves of the paths, then of the series, too
        rows.clear()
        predictor._generate = CapturedGenerate(scarce)
        with caplog.at_level(logging.WARNING, logger="kronos"):
            halved = predictor.predict_paths(frames, pred_len=6, sample_count=5, seed=3)
        np.testing.assert_allclose(halved, expected, rtol=1e-5)
        assert max(rows) <= limit and "cpu is out of memory" in caplog.text
    limit = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        predictor.predict_paths(frames, pred_len=6, sample_count=5, seed=3)


class OneDevice(TorchDispatchMode):
    """Raises where an operator reads a tensor of another device, scalar tensors of the CPU included."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        leaves, _ = tree_flatten((args, kwargs or {}))
        foreign = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta"]
        assert not foreign, f"{func} reads a tensor of {foreign[0].device}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_decoding_off_the_cpu_reads_tensors_of_its_device_only(sampling: Sampling, precision: Precision) -> None:
    """A scalar of the CPU would be copied from pageable memory, which a capture forbids. The meta device takes the
    branches of CUDA."""
    with torch.inference_mode():
        engine = PredictorEngine(Kronos(config=TINY).eval().to("meta"), precision)
        decode = StaticDecode(engine, StaticShape(3, 4, 64, 9), sampling)
        with OneDevice():  # type: ignore[no-untyped-call]
            decode.step()
        group = SeriesGroup(
            torch.zeros(3, 20, dtype=torch.long, device="meta"),
            torch.zeros(3, 20, dtype=torch.long, device="meta"),
            torch.ones(3, 29, 5, dtype=torch.long, device="meta"),
            torch.rand(3, 4, 9, 2, device="meta"),
        )
        generate(engine, [group], max_context=24, sampling=sampling)  # the window slides: both kinds of caches
        decode.run([group], decode.step)
        tokenizer = TokenizerEngine(KronosTokenizer(config=TINY_TOKENIZER).eval().to("meta"), precision)
        s1, s2 = tokenizer.encode(torch.zeros(3, 20, 6, device="meta"))
        bars = tokenizer.decode(s1, s2, group.tokens[..., 0], group.tokens[..., 1])
        assert bars.shape == (3, 4, 9, 6) and bars.device.type == "meta"


def test_sliding_windows_and_single_steps_are_not_captured(engine: PredictorEngine) -> None:
    captures: list[StaticShape] = []
    static = CapturedGenerate(recorded_capture(captures))
    ours, expected = both(engine, static, Sampling(), [1, 2], [20, CONTEXT], 5, 2)
    for mine, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine.tokens, reference.tokens, rtol=0, atol=0)
    assert [shape.series for shape in captures] == [1]
    both(engine, static, Sampling(), [1, 2], [20, 30], 1, 2)
    assert [shape.series for shape in captures] == [1]


def test_a_failed_capture_is_logged_once_and_changes_no_token(
    engine: PredictorEngine, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = []

    def failing(decode: StaticDecode) -> Callable[[], None]:
        attempts.append(decode)
        raise RuntimeError("operation not permitted when stream is capturing")

    static = CapturedGenerate(failing)
    with caplog.at_level(logging.WARNING, logger="kronos"):
        for _ in range(2):
            ours, expected = both(engine, static, Sampling(), [2], [30], 6, 3)
            torch.testing.assert_close(ours[0].tokens, expected[0].tokens, rtol=0, atol=0)
    assert len(attempts) == 1
    assert len(caplog.records) == 1
    assert "not permitted when stream is capturing" in caplog.text


def test_static_steps_do_not_change_a_forecast(tiny_model: Kronos, tiny_tokenizer: KronosTokenizer) -> None:
    predictor = KronosPredictor(tiny_model, tiny_tokenizer, device="cpu", max_context=CONTEXT)
    frames = [random_bars(length, seed=length) for length in (30, 64, 30)]
    expected = predictor.predict_paths(frames, pred_len=8, sample_count=5, top_p=0.9, seed=3)
    assert predictor._generate is generate  # the default on the CPU
    predictor._generate = CapturedGenerate(step_by_step)
    static = predictor.predict_paths(frames, pred_len=8, sample_count=5, top_p=0.9, seed=3)
    np.testing.assert_array_equal(static, expected)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_step_neither_leaves_its_device_nor_waits_for_it(sampling: Sampling, precision: Precision) -> None:
    """Both are forbidden during a capture; torch's meta device raises for both, without a GPU."""
    with torch.inference_mode():
        decode = StaticDecode(
            PredictorEngine(Kronos(config=TINY).eval().to("meta"), precision), StaticShape(3, 4, 64, 9), sampling
        )
        decode.position.fill_(-1)
        decode.step()
        assert decode.tokens.device.type == "meta"
        with pytest.raises(RuntimeError):
            decode.position.item()
        decode.lengths = torch.ones(3, dtype=torch.long)
        with pytest.raises(RuntimeError):
            decode.step()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: a captured graph is not tested")
def test_a_captured_graph_gives_the_forecast_of_the_cpu(
    tiny_model: Kronos, tiny_tokenizer: KronosTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    models = tiny_model, tiny_tokenizer
    cuda = KronosPredictor(*copy.deepcopy(models), device="cuda", max_context=CONTEXT)
    cpu = KronosPredictor(*models, device="cpu", max_context=CONTEXT)
    with caplog.at_level(logging.WARNING, logger="kronos"):
        for seed, lengths in enumerate(([30, 64, 30], [20, 40, 64])):  # captured, then replayed
            frames = [random_bars(length, seed=length) for length in lengths]
            ours, reference = (
                p.predict_paths(frames, pred_len=12, sample_count=5, top_p=0.9, seed=seed) for p in (cuda, cpu)
            )
            same = np.isclose(ours, reference, rtol=1e-4).all(axis=(2, 3))
            assert same.mean() > 0.9  # rounding may change a draw, and then the rest of its path
    assert isinstance(cuda._generate, CapturedGenerate)
    assert cuda._generate._captured
    assert not caplog.records
