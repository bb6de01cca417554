"""Decoding on CUDA: the static step captured once a shape as a CUDA graph and replayed for every bar.

A step of Kronos-small is some 480 small operations, counted at the dispatcher. Python starts them one by one;
replaying a graph starts them all at once
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from kronos.inference.engine import PredictorEngine
from kronos.inference.generate import Group, Overflow, generate
from kronos.inference.sampling import Sampling
from kronos.inference.static_decode import StaticDecode, StaticShape

logger = logging.getLogger(__name__)
Captured = tuple[StaticDecode, Callable[[], None]]


def capture(decode: StaticDecode) -> Callable[[], None]:
    """Capture `decode.step` on its device; returns its replay. The buffers' contents are overwritten."""
    with torch.cuda.device(decode.position.device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # so that libraries have chosen their kernels and allocated what they keep
                decode.position.fill_(-1)
                decode.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use CUDA meanwhile: only this one's calls must be fit for capture.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            decode.step()
    return graph.replay


class CapturedGenerate:
    """`kronos.inference.generate.generate` by replaying a captured step; one for each pair of frozen models.

    The last shape's buffers and graph stay for the next call, and no others, so that memory stays bounded.
    Groups whose window has to slide, forecasts of one step, and everything once a capture has failed go
    the ordinary way, with the same draws; the failure's reason is logged.
    """

    def __init__(self, capture: Callable[[StaticDecode], Callable[[], None]] = capture) -> None:
        self._capture = capture
        self._captured: Captured | None = None
        self._failed = False

    def __call__(
        self,
        engine: PredictorEngine,
        groups: Sequence[Group],
        *,
        max_context: int,
        sampling: Sampling,
        overflow: Overflow = "exact",
    ) -> None:
        horizon = groups[0].uniform.shape[2]
        rest, fixed = list(groups), [group for group in groups if 1 < horizon <= max_context - group.length + 1]
        if fixed and (captured := self._prepare(engine, fixed, sampling)):
            decode, replay = captured
            decode.run(fixed, replay)
            rest = [group for group in groups if group.length > max_context - horizon + 1]
        if rest:
            generate(engine, rest, max_context=max_context, sampling=sampling, overflow=overflow)

    def _prepare(self, engine: PredictorEngine, groups: Sequence[Group], sampling: Sampling) -> Captured | None:
        """Buffers and replay for these groups, the last ones again where they fit; None if that fails."""
        shape = StaticShape.of(groups)
        kept = self._captured[0] if self._captured else None
        if self._failed or (kept and (kept.engine, kept.shape, kept.sampling) == (engine, shape, sampling)):
            return self._captured
        self._captured = kept = None  # frees the old buffers before the new ones are allocated
        try:
            decode = StaticDecode(engine, shape, sampling)
            self._captured = decode, self._capture(decode)
        except RuntimeError as error:  # CUDA's own and out-of-memory errors are RuntimeErrors too
            self._failed = True
            logger.warning("no CUDA graph, decoding without: capturing the step failed: %s", error)
        return self._captured
