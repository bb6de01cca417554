"""Captured training steps: on the CPU with a capture that runs the step itself, on CUDA with a graph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from assets.training.fit.gradients import Backward, Batch, Capture, Captured, Gradients, capture_graph
from kronos import Kronos
from kronos.losses import predictor_loss
from tests.kronos.kronos_pairs import TINY

WITH_DROPOUT = replace(TINY, ffn_dropout_p=0.2, resid_dropout_p=0.2, attn_dropout_p=0.1, token_dropout_p=0.1)
BATCH_SIZE, MICRO_BATCH = 20, 8


def run_in_buffers(backward: Backward, batch: Batch, parameters: Sequence[Tensor]) -> Captured:
    """What a capture does to buffers, gradients and random numbers, without a graph."""
    inputs, factor = tuple(part.clone() for part in batch), torch.ones(())
    state = torch.get_rng_state()
    loss = backward(inputs, factor)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.zero_()
    torch.set_rng_state(state)

    def replay() -> None:
        loss.copy_(backward(inputs, factor))

    return Captured(inputs, factor, loss, replay)


class Fit:
    """Steps of a tiny predictor with dropout, each of three micro-batches: two full ones and a rest."""

    def __init__(self, device: str, capture: Capture | None) -> None:
        torch.manual_seed(3)
        self.model = Kronos(config=WITH_DROPOUT).train()
        self.unused = nn.Parameter(torch.ones(3))
        self.model.register_parameter("unused", self.unused)
        self.model.to(device)
        self.weights = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-2, weight_decay=0.1)
        self.gradients = Gradients(self.backward, self.weights, torch.device(device), capture)
        self.random = torch.Generator().manual_seed(5)
        self.rows: list[int] = []

    def backward(self, batch: Batch, factor: Tensor | float) -> Tensor:
        self.rows.append(len(batch[0]))
        loss = predictor_loss(self.model, *batch).total * factor
        loss.backward()
        return loss.detach()

    def step(self, micro_batch: int = MICRO_BATCH) -> float:
        tokens = torch.randint(0, 2**TINY.s1_bits, (2, BATCH_SIZE, 12), generator=self.random)
        parts = tokens[0], tokens[1], torch.zeros(BATCH_SIZE, 12, 5, dtype=torch.long)
        loss = 0.0
        for first in range(0, BATCH_SIZE, micro_batch):
            batch = tuple(part[first : first + micro_batch] for part in parts)
            loss += float(self.gradients.add(batch, len(batch[0]) / BATCH_SIZE))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=not self.gradients.captured)
        return loss

    def steps(self, count: int) -> list[float]:
        torch.manual_seed(11)  # of dropout
        return [self.step() for _ in range(count)]


def test_captured_steps_give_the_losses_and_weights_of_plain_ones() -> None:
    plain, captured = Fit("cpu", None), Fit("cpu", run_in_buffers)
    assert plain.steps(4) == captured.steps(4)
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, captured.weights, strict=True))
    assert captured.gradients.captured and not plain.gradients.captured


def test_a_weight_that_the_loss_does_not_use_is_not_decayed() -> None:
    captured = Fit("cpu", run_in_buffers)
    captured.step()
    assert captured.unused.grad is None and torch.equal(captured.unused, torch.ones(3))


def test_after_a_failed_capture_the_fit_goes_on_without_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    attempts = []

    def failing(backward: Backward, batch: Batch, parameters: Sequence[Tensor]) -> Captured:
        attempts.append(len(batch[0]))
        backward(batch, 1.0)
        raise RuntimeError("operation not permitted when stream is capturing")

    plain, captured = Fit("cpu", None), Fit("cpu", failing)
    with caplog.at_level(logging.WARNING, logger="candlecast.training"):
        for one in (plain, captured):
            one.model.eval()  # a failed attempt may have used random numbers
            one.steps(2)
    assert attempts == [MICRO_BATCH]
    assert [record.getMessage() for record in caplog.records] == [
        "training without a CUDA graph: capturing a step failed: operation not permitted when stream is capturing"
    ]
    assert all(torch.equal(a, b) for a, b in zip(plain.weights, captured.weights, strict=True))


def test_a_capture_without_memory_is_raised_and_a_smaller_micro_batch_captured() -> None:
    def scarce(backward: Backward, batch: Batch, parameters: Sequence[Tensor]) -> Captured:
        if len(batch[0]) > 4:
            try:
                raise torch.cuda.OutOfMemoryError("no memory")
            finally:
                raise RuntimeError("the capture was invalidated")
        return run_in_buffers(backward, batch, parameters)

    fit = Fit("cpu", scarce)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        fit.step(8)
    fit.gradients.release()
    fit.step(4)
    assert fit.gradients.captured and set(fit.rows) == {4}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: a captured step is not tested")
def test_a_captured_graph_trains_the_weights_of_plain_steps(caplog: pytest.LogCaptureFixture) -> None:
    plain, captured = Fit("cuda", None), Fit("cuda", capture_graph)
    losses = [fit.steps(4) for fit in (plain, captured)]
    assert captured.gradients.captured and not caplog.records
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for ours, theirs in zip(captured.weights, plain.weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
