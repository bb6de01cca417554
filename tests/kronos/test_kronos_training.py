"""Training: causal losses, gradient checkpointing and the diagnostics of a tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kronos import Kronos, KronosPredictor, KronosTokenizer
from kronos.diagnostics import codebook_use, reconstruction_error, token_histogram
from kronos.drift import histogram_drift
from kronos.inference import packed_linear
from kronos.inference.kv_cache import attention, merge_attention, partial_attention
from kronos.losses import predictor_loss, tokenizer_loss
from tests.kronos.kronos_pairs import TINY, TINY_TOKENIZER, Pair, random_bars, random_stamps


def random_tokens(batch: int, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    s1, s2 = torch.randint(0, 64, (2, batch, length))
    return s1, s2, torch.from_numpy(random_stamps(batch, length))


@pytest.mark.parametrize("training", [True, False])
def test_no_logit_depends_on_a_later_token(tiny_model: Kronos, training: bool) -> None:
    s1, s2, stamps = random_tokens(2, 20)
    later = [value.clone() for value in (s1, s2, stamps)]
    for value in later:
        value[:, 12:] = value[:, 12:].flip(1)
    tiny_model.train(training)
    try:
        first, second = (
            tiny_model(a, b, c, use_teacher_forcing=True, s1_targets=a) for a, b, c in ((s1, s2, stamps), later)
        )
    finally:
        tiny_model.eval()
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a[:, :12], b[:, :12])


def test_a_model_used_in_inference_mode_can_still_be_trained() -> None:
    model, batch = Kronos(config=TINY), random_tokens(2, 8)
    with torch.inference_mode():
        model.hidden(*batch)
    predictor_loss(model, *batch).total.backward()


def test_padding_is_not_attended_to(tiny_model: Kronos) -> None:
    s1, s2, stamps = random_tokens(2, 12)
    padding = torch.zeros(2, 12, dtype=torch.bool)
    padding[:, 9:] = True
    with torch.no_grad():
        full = tiny_model(s1, s2, stamps, padding_mask=padding, use_teacher_forcing=True, s1_targets=s1)
        short = tiny_model(s1[:, :9], s2[:, :9], stamps[:, :9], use_teacher_forcing=True, s1_targets=s1[:, :9])
    for a, b in zip(full, short, strict=True):
        torch.testing.assert_close(a[:, :9], b, atol=1e-5, rtol=1e-5)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    batch, x = random_tokens(3, 10), torch.randn(3, 10, 6)
    cases: list[tuple[Callable[[], Any], Callable[[Any], torch.Tensor]]] = [
        (lambda: Kronos(config=TINY), lambda model: predictor_loss(model, *batch).total),
        (lambda: KronosTokenizer(config=TINY_TOKENIZER), lambda model: tokenizer_loss(model, x).total),
    ]
    for build, loss in cases:
        gradients = []
        for checkpointed in (False, True):
            torch.manual_seed(0)
            model = build().train()
            model.gradient_checkpointing = checkpointed
            loss(model).backward()
            gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)


def test_the_fine_head_trains_on_actual_and_on_sampled_coarse_tokens(tiny_model: Kronos) -> None:
    batch = random_tokens(2, 8)
    teacher, sampled = (predictor_loss(tiny_model, *batch, s1_sampling=how) for how in ("teacher", "sampled"))
    assert torch.equal(teacher.s1, sampled.s1)
    assert torch.isfinite(sampled.total)
    with pytest.raises(ValueError, match="s1_sampling"):
        predictor_loss(tiny_model, *batch, s1_sampling="greedy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2"):
        predictor_loss(tiny_model, *(value[:, :1] for value in batch))


def test_a_few_steps_reduce_both_losses() -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 20, 6).cumsum(dim=1).clamp(-5, 5) / 5
    tokenizer, model = KronosTokenizer(config=TINY_TOKENIZER), Kronos(config=TINY)
    s1, s2 = tokenizer.encode(x, half=True)
    stamps = torch.from_numpy(random_stamps(16, 20))
    cases: list[tuple[torch.nn.Module, Callable[[], torch.Tensor]]] = [
        (tokenizer, lambda: tokenizer_loss(tokenizer, x).total),
        (model, lambda: predictor_loss(model, s1, s2, stamps).total),
    ]
    for module, loss in cases:
        optimiser = torch.optim.AdamW(module.parameters(), lr=2e-3)
        first = loss().item()
        for _ in range(15):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
        assert loss().item() < 0.95 * first


def test_codebook_diagnostics_of_known_tokens() -> None:
    even, single = np.arange(64).repeat(3), np.full(50, 7)
    use = codebook_use(even, 6)
    assert (use.used, use.entropy, use.perplexity) == pytest.approx((1.0, 6.0, 64.0))
    np.testing.assert_allclose(use.bit_means, 0.5)
    assert codebook_use(torch.from_numpy(single), 6).entropy == 0
    assert histogram_drift(token_histogram(even, 6), token_histogram(even, 6)) == pytest.approx(0)
    low, high = token_histogram(np.arange(8), 6), token_histogram(np.arange(8, 16), 6)
    assert histogram_drift(low, high) == pytest.approx(1)
    wrong: tuple[tuple[list[int], list[int], str], ...] = (
        ([0, 0], [1, 2], "reference"),
        ([1, 2], [0, 0], "current"),
        ([], [], "reference"),
        ([1, 2], [1, 2, 3], r"\(2,\).*\(3,\)"),
    )
    for reference, current, fact in wrong:
        with pytest.raises(ValueError, match=fact):
            histogram_drift(reference, current)
    with pytest.raises(ValueError, match="64"):
        token_histogram(np.array([64]), 6)


def test_reconstruction_error_equals_that_of_the_forward_pass(tiny_tokenizer: KronosTokenizer) -> None:
    x = torch.randn(5, 12, 6)
    errors = reconstruction_error(tiny_tokenizer, x, batch_size=2)
    with torch.no_grad():
        full = tiny_tokenizer(x).reconstructions[1]
    assert list(errors) == ["open", "high", "low", "close", "volume", "amount"]
    assert errors["close"]["mae"] == pytest.approx(float((full - x)[..., 3].abs().mean()), rel=1e-5)


def test_the_code_path_of_other_devices_gives_the_same_forecast(tiny: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = random_bars(25)

    def forecast() -> NDArray[np.float32]:
        predictor = KronosPredictor(tiny.model, tiny.tokenizer, device="cpu", max_context=28)
        return predictor.predict_paths(frame, pred_len=6, sample_count=3, seed=1)

    expected = forecast()
    monkeypatch.setattr(packed_linear, "HAS_ONEDNN", False)
    np.testing.assert_allclose(forecast(), expected, rtol=1e-4)
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (7, 7, 7))
    first, second = (partial_attention(q, k[:, :, part], v[:, :, part]) for part in (slice(0, 4), slice(4, 7)))
    assert_close = partial(torch.testing.assert_close, atol=1e-6, rtol=1e-5)  # log-sum-exps are float32
    assert_close(merge_attention(*first, *second), attention(q, k, v))
    causal, _ = partial_attention(q, k, v, causal=True)
    assert_close(causal, attention(q, k, v, causal=True))
