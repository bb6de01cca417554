"""The one training loop: tokenizer and predictor, one process or many, interrupted or not, to the same weights.

Accelerate carries devices, processes, mixed precision and the saved state. What is here decides when to stop, which
weights are kept (the best by validation loss, never by the training loss), and what is told on the way. Which of those
kept is used: assets.training.model_selection.selection.
"""

from __future__ import annotations

import json
import logging
import math
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from assets.training.fit.lr_schedule import Schedule
from assets.training.worker.pipes_reporting import Measures, unheard
from resources.errors import CandlecastError
from resources.progress import Progress, silent
from resources.publish import digest_of_folder, publish_folder

BETAS = (0.9, 0.95)
TELL_EVERY = 10
RUN = "run.json"
logger = logging.getLogger("candlecast.training")


class Task(Protocol):
    """What is learnt: the loss of some windows, and the loss that decides."""

    def loss(self, model: nn.Module, windows: np.ndarray) -> Tensor:
        """The mean training loss of the windows with these numbers: a scalar with gradient."""
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses over the validation windows, `loss` among them. The model is in eval mode, gradients are off."""
        ...


@runtime_checkable
class Chunked(Protocol):
    """A task that validates `chunk` windows at once, and fewer where that is more than fits."""

    chunk: int


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
        self.moving = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            self.moving, lr=schedule.learning_rate, betas=BETAS, weight_decay=schedule.weight_decay
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
        while (loss := self._attempt(windows)) is None:
            if self.curves.micro_batch == 1:
                raise CandlecastError(
                    f"one window does not fit on {self.accelerator.device}: choose a smaller model, a shorter "
                    'windows.lookback_window, or compute.device = "cpu"'
                )
            self.optimizer.zero_grad()
            torch.cuda.empty_cache()
            self.curves.micro_batch = max(1, self.curves.micro_batch // 2)
        self._average()
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

    def _attempt(self, windows: np.ndarray) -> Tensor | None:
        """The loss, its gradients left in the weights; none where memory was short in any process."""
        try:
            loss = self._gradients(windows)
        except torch.cuda.OutOfMemoryError:
            loss = None
        if self.accelerator.num_processes == 1:
            return loss
        short = torch.tensor(float(loss is None), device=self.accelerator.device)
        return None if self.accelerator.reduce(short, "sum") > 0 else loss

    def _average(self) -> None:
        """The mean of the gradients of all processes, in each."""
        if self.accelerator.num_processes == 1:
            return
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in self.moving
        ]
        together = torch.cat([gradient.flatten() for gradient in gradients]) / self.accelerator.num_processes
        torch.distributed.all_reduce(together)
        sizes = [gradient.numel() for gradient in gradients]
        for parameter, mean in zip(self.moving, together.split(sizes), strict=True):
            parameter.grad = mean.view_as(parameter)

    def _gradients(self, windows: np.ndarray) -> Tensor:
        """The process's own gradients, added up part by part.

        The processes meet after this, in `_attempt`, and never within: one that runs out of memory half way would
        leave the others waiting for it.
        """
        parts = [windows[i : i + self.curves.micro_batch] for i in range(0, len(windows), self.curves.micro_batch)]
        total = torch.zeros((), device=self.accelerator.device)
        for part in parts:
            with self.accelerator.autocast():
                loss = self.task.loss(self.inner, part) * (len(part) / len(windows))
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _evaluate(self) -> None:
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            found = [self._validated()]
        if self.accelerator.num_processes > 1:
            # In parts of another size, a process gets other last digits, and might decide otherwise.
            broadcast_object_list(found)
        losses = found[0]
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

    def _validated(self) -> dict[str, float]:
        while True:
            try:
                return self.task.validate(self.inner)
            except torch.cuda.OutOfMemoryError:
                if not isinstance(self.task, Chunked) or self.task.chunk == 1:
                    raise CandlecastError(
                        f"the validation windows do not fit on {self.accelerator.device}: choose a smaller model, a "
                        'shorter windows.lookback_window, or compute.device = "cpu"'
                    ) from None
            # After the handler: what it holds of the failed attempt is free by now.
            torch.cuda.empty_cache()
            self.task.chunk = max(1, self.task.chunk // 2)

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
        # One process writes them down for all.
        self.running = [self.accelerator.reduce(loss, "mean") for loss in self.running]
        self.accelerator.wait_for_everyone()
        with _writing(self.work):
            self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        told: dict[str, Any] = {
            "step": self.step,
            "since_best": self.since_best,
            "running": [float(x) for x in self.running],
        }
        with _writing(self.work):
            for step in self.curves.kept:
                shutil.copy2(weights_at(self.work, step), weights_at(partial, step))
            told |= {"curves": asdict(self.curves), "digest": _digest(partial)}
            (partial / RUN).write_text(json.dumps(told))
            shutil.rmtree(name, ignore_errors=True)
            publish_folder(partial, name)
        for older in self.work.glob("state-*"):
            if older != name:
                shutil.rmtree(older, ignore_errors=True)

    def _resume(self) -> bool:
        state = self._newest_whole()
        if state is None:
            return False
        told = _told(state)
        try:
            self.accelerator.load_state(str(state))
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
            raise CandlecastError(
                f"the saved state {state} does not fit this fit: {error}. Remove it, and the fit begins again"
            ) from error
        self.step, self.since_best = told["step"], told["since_best"]
        self.running = [torch.tensor(x, device=self.accelerator.device) for x in told["running"]]
        self.curves = Curves(**told["curves"])
        self.curves.train = [(int(step), loss) for step, loss in self.curves.train]
        # What was halved stays halved; what was lowered since, as after a kill for memory, counts too.
        self.curves.micro_batch = min(self.curves.micro_batch, self.schedule.micro_batch)
        if self.accelerator.is_main_process:
            for step in self.curves.kept:
                shutil.copy2(weights_at(state, step), weights_at(self.work, step))
        self.accelerator.wait_for_everyone()
        return True

    def _newest_whole(self) -> Path | None:
        """The newest state that can be read, the same for all processes; newer ones that cannot are set aside."""
        found: list[Path | None] = [None]
        if self.accelerator.is_main_process:
            states = sorted(path for path in self.work.glob("state-*") if not path.name.endswith(".partial"))
            while states and found[0] is None:
                state = states.pop()
                try:
                    _told(state)
                    found = [state]
                except (OSError, ValueError, KeyError, TypeError) as error:
                    self._set_aside(state, error)
        if self.accelerator.num_processes > 1:
            broadcast_object_list(found)
        return found[0]

    def _set_aside(self, state: Path, error: Exception) -> None:
        aside = state.with_name(f"damaged-{state.name}")
        shutil.rmtree(aside, ignore_errors=True)
        state.rename(aside)
        words = f"the saved state {state} cannot be read ({error}); set aside as {aside.name}, the fit goes on without"
        logger.warning(words)
        self.progress(0, self.schedule.steps, words)


def _told(state: Path) -> dict[str, Any]:
    """What a state's own file says, once all its files are as they were written.

    Raises:
        OSError, ValueError, KeyError, TypeError: it is damaged.
    """
    told: dict[str, Any] = json.loads((state / RUN).read_text())
    if told["digest"] != _digest(state):
        raise ValueError("its files are not what was written")
    return told


def _digest(state: Path) -> str:
    return digest_of_folder(state, frozenset({RUN}))


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
