"""The one training loop: tokenizer and predictor, one process or many, interrupted or not, to the same weights.

Accelerate carries devices, processes, mixed precision and the saved state. What is here decides when to stop, which
weights are kept (the best by validation loss, never by the training loss), and what is told on the way. Which of those
kept is used: assets.training.selection.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from assets.training.schedule import Schedule
from assets.training.speech import Measures, unheard
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.publish import publish_folder

BETAS = (0.9, 0.95)
TELL_EVERY = 10


class Task(Protocol):
    """What is learnt: the loss of some windows, and the loss that decides."""

    def loss(self, model: nn.Module, windows: np.ndarray) -> Tensor:
        """The mean training loss of the windows with these numbers: a scalar with gradient."""
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses over the validation windows, `loss` among them. The model is in eval mode, gradients are off."""
        ...


@dataclass
class Curves:
    """What happened, for pictures and cards. `validation` has one entry an epoch, the first before any step.

    `kept` are the steps whose weights lie in the work folder (`weights_at`), the lowest validation loss first.
    """

    train: list[tuple[int, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    kept: list[int] = field(default_factory=list)
    windows_per_second: float = 0.0
    peak_memory_bytes: int = 0
    stopped_early: bool = False
    micro_batch: int = 0

    @property
    def best(self) -> float:
        return min((entry["loss"] for entry in self.validation), default=math.inf)


def fit(
    model: nn.Module,
    task: Task,
    schedule: Schedule,
    accelerator: Accelerator,
    work: Path,
    progress: Progress = silent,
    measured: Callable[[Measures], None] = unheard,
    keep: int = 1,
) -> Curves:
    """Train `model` in place and leave the weights with the best validation loss in it.

    Args:
        work: where states are saved; a state of an earlier, killed run there is continued.
        measured: told the losses of each evaluation.
        keep: of how many evaluations the weights are kept in `work`.

    Raises:
        CandlecastError: a loss or a gradient that is not finite.
    """
    run = _Run(model, task, schedule, accelerator, work, progress, measured, keep)
    run.go()
    return run.curves


class _Run:
    def __init__(
        self,
        model: nn.Module,
        task: Task,
        schedule: Schedule,
        accelerator: Accelerator,
        work: Path,
        progress: Progress,
        measured: Callable[[Measures], None],
        keep: int,
    ) -> None:
        self.task, self.schedule, self.accelerator = task, schedule, accelerator
        self.work, self.progress, self.measured, self.keep = work, progress, measured, keep
        self.curves = Curves(micro_batch=schedule.micro_batch)
        self.step, self.since_best = 0, 0
        self.running: list[Tensor] = []
        self.inner = model
        moving = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            moving, lr=schedule.learning_rate, betas=BETAS, weight_decay=schedule.weight_decay
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        # Not given to accelerate: its wrapper steps once a process.
        self.rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate)
        accelerator.register_for_checkpointing(self.rates)

    def go(self) -> None:
        if not self._resume():
            self._evaluate()
        started, first = time.monotonic(), self.step
        while self.step < self.schedule.steps and not self.curves.stopped_early:
            epoch, within = divmod(self.step, self.schedule.steps_per_epoch)
            if within == 0 or first == self.step:
                order = self.schedule.epoch(epoch)
            self._update(order[within, self.accelerator.process_index])
            self.step += 1
            if self.step % TELL_EVERY == 0 or self.step == self.schedule.steps:
                self._tell()
            if self.step % self.schedule.steps_per_epoch == 0:
                self._evaluate()
            if self.step % self.schedule.save_every == 0 and self.step < self.schedule.steps:
                self._save()
        seconds = time.monotonic() - started
        if self.step > first:
            done = (self.step - first) * self.schedule.batch_size * self.schedule.processes
            self.curves.windows_per_second = done / seconds
        self.curves.peak_memory_bytes = peak_memory(self.accelerator.device)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.inner.load_state_dict(load_file(weights_at(self.work, self.curves.best_step)))
        self.inner.eval()

    def _update(self, windows: np.ndarray) -> None:
        self.model.train()
        while True:
            try:
                loss = self._gradients(windows)
                break
            except torch.cuda.OutOfMemoryError:
                if self.curves.micro_batch == 1:
                    raise CandlecastError(
                        f"one window does not fit on {self.accelerator.device}: choose a smaller model, a shorter "
                        'windows.lookback_window, or compute.device = "cpu"'
                    ) from None
                self.optimizer.zero_grad()
                torch.cuda.empty_cache()
                self.curves.micro_batch = max(1, self.curves.micro_batch // 2)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.schedule.max_grad_norm)
        self.running.append(loss)
        if norm is not None and not torch.isfinite(norm):
            raise CandlecastError(
                f"the gradient is not finite at step {self.step + 1} (loss {float(loss):.4g}): lower learning_rate, "
                'or set compute.dtype = "float32"'
            )
        self.optimizer.step()
        self.rates.step()
        self.optimizer.zero_grad()

    def _gradients(self, windows: np.ndarray) -> Tensor:
        parts = [windows[i : i + self.curves.micro_batch] for i in range(0, len(windows), self.curves.micro_batch)]
        total = torch.zeros((), device=self.accelerator.device)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with self.accelerator.autocast(), nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.task.loss(self.model, part) * (len(part) / len(windows))
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _evaluate(self) -> None:
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            losses = self.task.validate(self.inner)
        if not math.isfinite(losses["loss"]):
            raise CandlecastError(f"the validation loss is {losses['loss']} at step {self.step}: lower learning_rate")
        better = losses["loss"] < self.curves.best
        self.curves.validation.append({"step": self.step, **losses})
        self._measure(losses)
        self.since_best = 0 if better else self.since_best + 1
        if better:
            self.curves.best_step = self.step
        self._keep()
        patience = self.schedule.patience
        self.curves.stopped_early = patience is not None and self.since_best >= patience

    def _tell(self) -> None:
        loss = float(self.accelerator.reduce(torch.stack(self.running).mean(), "mean"))
        self.running.clear()
        self.curves.train.append((self.step, loss))
        self.progress(self.step, self.schedule.steps, f"loss {loss:.4f}, validation {self.curves.best:.4f}")

    def _measure(self, losses: dict[str, float]) -> None:
        measures = {f"validation_{name}": value for name, value in losses.items()}
        if self.curves.train:
            measures["train_loss"] = self.curves.train[-1][1]
        self.measured({"step": self.step, **measures, "learning_rate": float(self.rates.get_last_lr()[0])})

    def _keep(self) -> None:
        """Keep these weights if few evaluations were better, and drop those that are no longer among them."""
        ranked = sorted(self.curves.validation, key=lambda entry: entry["loss"])
        before, self.curves.kept = self.curves.kept, [int(entry["step"]) for entry in ranked[: self.keep]]
        if self.accelerator.is_main_process:
            if self.step in self.curves.kept:
                self.work.mkdir(parents=True, exist_ok=True)
                file = weights_at(self.work, self.step)
                partial = file.with_suffix(".partial")
                with _writing(self.work):
                    save_file({k: v.detach().cpu().contiguous() for k, v in self.inner.state_dict().items()}, partial)
                    partial.replace(file)
            for step in set(before) - set(self.curves.kept):
                weights_at(self.work, step).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        """Save a state whole, on the disk before it has its name, then forget the one before."""
        name = self.work / f"state-{self.step:08d}"
        partial = name.with_suffix(".partial")
        self.accelerator.wait_for_everyone()
        with _writing(self.work):
            self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        told = {"step": self.step, "since_best": self.since_best, "running": [float(x) for x in self.running]}
        with _writing(self.work):
            (partial / "run.json").write_text(json.dumps({**told, "curves": asdict(self.curves)}))
            for step in self.curves.kept:
                shutil.copy2(weights_at(self.work, step), weights_at(partial, step))
            shutil.rmtree(name, ignore_errors=True)
            publish_folder(partial, name)
        for older in self.work.glob("state-*"):
            if older != name:
                shutil.rmtree(older, ignore_errors=True)

    def _resume(self) -> bool:
        states = sorted(path for path in self.work.glob("state-*") if not path.name.endswith(".partial"))
        if not states:
            return False
        self.accelerator.load_state(str(states[-1]))
        told: dict[str, Any] = json.loads((states[-1] / "run.json").read_text())
        self.step, self.since_best = told["step"], told["since_best"]
        self.running = [torch.tensor(x, device=self.accelerator.device) for x in told["running"]]
        self.curves = Curves(**told["curves"])
        self.curves.train = [(int(step), loss) for step, loss in self.curves.train]
        if self.accelerator.is_main_process:
            for step in self.curves.kept:
                shutil.copy2(weights_at(states[-1], step), weights_at(self.work, step))
        self.accelerator.wait_for_everyone()
        return True


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say where writing failed, and how full it is there: torch tells of a full disk by "unexpected pos 64 vs 0"."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        free = shutil.disk_usage(folder).free / 2**20
        raise CandlecastError(
            f"{folder} could not be written, {free:,.1f} MiB are free there: {error}. "
            "Make room and run it again: it goes on from its last saved state; the last good checkpoint is untouched"
        ) from error


def weights_at(folder: Path, step: int) -> Path:
    """Where the weights of a step are kept, as the module that was trained has them."""
    return folder / f"weights-{step:08d}.safetensors"


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device where it counts them, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
