"""Loss and gradients of a micro-batch; on CUDA by replaying one captured graph.

A training step of Kronos-mini is 600 small operations, forward and backward. Python launches them one by one, which
takes longer than they do; a graph launches them all at once
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). It needs every address to stay the same: inputs are
copied into buffers, and gradients are zeroed where they are, not released.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kronos.devices import out_of_memory_cause

Batch = tuple[Tensor, ...]
Backward = Callable[[Batch, Tensor | float], Tensor]
"""(batch on the device, factor of the loss) → the loss times the factor, its gradients added to the weights."""

logger = logging.getLogger("candlecast.training")


@dataclass(frozen=True)
class Captured:
    """A graph with its addresses: `replay` reads `batch` and `factor`, writes `loss` and adds to the gradients."""

    batch: Batch
    factor: Tensor
    loss: Tensor
    replay: Callable[[], None]

    def fits(self, batch: Batch) -> bool:
        return [(t.shape, t.dtype) for t in self.batch] == [(t.shape, t.dtype) for t in batch]


Capture = Callable[[Backward, Batch, Sequence[Tensor]], Captured]
"""(backward, a batch on any device, trained weights) → the captured step for batches of this shape."""


class Gradients:
    """Adds the gradients of micro-batches to those of the weights.

    The first shape of a micro-batch is captured; others, and all after a capture has failed, run without a graph. Too
    little memory is no such failure: a smaller micro-batch may fit.

    Args:
        parameters: the weights that are trained.
        capture: None: nothing is captured.
    """

    def __init__(
        self, backward: Backward, parameters: Sequence[Tensor], device: torch.device, capture: Capture | None
    ) -> None:
        self._backward, self._parameters, self._device, self._capture = backward, parameters, device, capture
        self._captured: Captured | None = None

    def add(self, batch: Batch, factor: float) -> Tensor:
        """The loss of a micro-batch times `factor`, a scalar, with its gradients added to those of the weights.

        Args:
            batch: on any device.

        Raises:
            torch.cuda.OutOfMemoryError: the batch does not fit; the gradients are incomplete.
        """
        if self._captured is None and self._capture is not None:
            self._captured = self._try_capture(self._capture, batch)
        if self._captured is None or not self._captured.fits(batch):
            return self._backward(tuple(part.to(self._device) for part in batch), factor)
        for kept, new in zip(self._captured.batch, batch, strict=True):
            kept.copy_(new)
        self._captured.factor.fill_(factor)
        self._captured.replay()
        return self._captured.loss.clone()

    @property
    def captured(self) -> bool:
        """Whether gradients must keep their addresses: they are zeroed, not set to none."""
        return self._captured is not None

    def release(self) -> None:
        """Free the graph, its buffers and the gradients; the next micro-batch is captured again."""
        self._captured = None
        for parameter in self._parameters:
            parameter.grad = None

    def _try_capture(self, capture: Capture, batch: Batch) -> Captured | None:
        try:
            return capture(self._backward, batch, self._parameters)
        except RuntimeError as error:  # CUDA's own errors are RuntimeErrors
            self.release()
            if cause := out_of_memory_cause(error):
                raise cause from None
            self._capture = None
            logger.warning("training without a CUDA graph: capturing a step failed: %s", error)
            return None


def capture_graph(backward: Backward, batch: Batch, parameters: Sequence[Tensor]) -> Captured:
    """Capture `backward` for batches of this shape. Gradients must be none or zero, and are zero afterwards.

    The random numbers of dropout go on as if nothing had run.
    """
    device = parameters[0].device
    with torch.cuda.device(device):
        random_state = torch.cuda.get_rng_state(device)
        inputs, factor = tuple(part.to(device) for part in batch), torch.ones((), device=device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # lets libraries choose their kernels, and creates the gradients
                backward(inputs, factor)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.Stream(), capture_error_mode="thread_local"):
            loss = backward(inputs, factor)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()
        torch.cuda.set_rng_state(random_state, device)
    return Captured(inputs, factor, loss, graph.replay)
