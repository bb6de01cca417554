"""The training curves of a fit: losses by step, the best step, throughput and memory."""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class TrainingCurves:
    """What a fit measured, for pictures and model cards.

    Attributes:
        train: (step, mean training loss since the point before).
        validation: one entry per evaluation, with `step` and `loss`; the first is before any step.
        best_step: the step with the lowest validation loss.
        kept: the steps whose weights are in the work folder, the lowest validation loss first.
        windows_per_second: training windows per second of wall time, of all processes together.
        peak_memory_bytes: of the device where it counts them, otherwise of the process.
        stopped_early: whether `patience` ended the fit.
        micro_batch: windows per forward pass, after it was halved for lack of memory.
    """

    train: list[tuple[int, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    kept: list[int] = field(default_factory=list)
    windows_per_second: float = 0.0
    peak_memory_bytes: int = 0
    stopped_early: bool = False
    micro_batch: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingCurves:
        """The curves of `dataclasses.asdict`, read from JSON."""
        curves = cls(**values)
        curves.train = [(int(step), loss) for step, loss in curves.train]
        return curves

    @property
    def best_loss(self) -> float:
        """The lowest validation loss; infinity before the first evaluation."""
        return min((entry["loss"] for entry in self.validation), default=math.inf)

    def lowest(self, count: int) -> list[int]:
        """The steps of the `count` evaluations with the lowest loss, the lowest first."""
        ranked = sorted(self.validation, key=lambda entry: entry["loss"])
        return [int(entry["step"]) for entry in ranked[:count]]


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of the device where it counts them, otherwise of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
