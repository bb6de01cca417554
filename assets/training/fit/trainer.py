"""The training loop of the tokenizer and the predictor, in one process or many.

Accelerate handles devices, processes, mixed precision and saved states. The loop decides when to stop and which weights
are kept: the best by validation loss, never by training loss. An interrupted fit resumes to identical weights
(checkpointing). Which of the kept weights are used: assets.training.model_selection.selection.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file
from torch import Tensor, nn

from assets.training.fit.checkpointing import StateStore, TrainerState, weights_file
from assets.training.fit.curves import TrainingCurves, peak_memory
from assets.training.fit.gradients import Gradients, capture_graph
from assets.training.fit.lr_schedule import TrainingSchedule
from assets.training.worker.pipes_reporting import ReportMetrics, ignore_metrics
from resources.errors import CandlecastError
from resources.progress import Progress, silent

BETAS = (0.9, 0.95)
LOG_EVERY = 10


class TrainingTask(Protocol):
    """What is trained: the loss of some windows, and the validation losses."""

    def batch(self, windows: np.ndarray) -> tuple[Tensor, ...]:
        """The training windows with these numbers, on the CPU. The same number of windows gives the same shapes."""
        ...

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The mean training loss of a batch on the model's device: a scalar with gradient."""
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses over the validation windows, `loss` among them. The model is in eval mode, gradients are off."""
        ...


@runtime_checkable
class ChunkedTask(Protocol):
    """A task that validates `chunk` windows at once; the trainer lowers it where memory is short."""

    chunk: int


class Trainer:
    """Trains one model.

    Args:
        model: trained in place; parameters that do not require a gradient stay as they are.
        work: folder for saved states and kept weights; a saved state in it is resumed.
        report_metrics: called with the losses of each evaluation.
        keep: number of evaluations whose weights are kept in `work`.
    """

    def __init__(
        self,
        model: nn.Module,
        task: TrainingTask,
        schedule: TrainingSchedule,
        accelerator: Accelerator,
        work: Path,
        *,
        progress: Progress = silent,
        report_metrics: ReportMetrics = ignore_metrics,
        keep: int = 1,
    ) -> None:
        self.task, self.schedule, self.accelerator = task, schedule, accelerator
        self.work, self.keep = work, keep
        self.progress, self.report_metrics = progress, report_metrics
        self.states = StateStore(work, accelerator, lambda reason: progress(0, schedule.steps, reason))
        self.state = TrainerState(TrainingCurves(micro_batch=schedule.micro_batch))
        self.module = model
        self.trainable = [p for p in model.parameters() if p.requires_grad]
        on_cuda = accelerator.device.type == "cuda"
        optimizer = torch.optim.AdamW(
            self.trainable,
            lr=schedule.learning_rate,
            betas=BETAS,
            weight_decay=schedule.weight_decay,
            fused=on_cuda or None,  # one launch; elsewhere torch's default, which fits of this store have used
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        # Not prepared by Accelerate: its wrapper steps once per process.
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.learning_rate_factor)
        accelerator.register_for_checkpointing(self.lr_scheduler)
        capture = capture_graph if on_cuda else None
        self.gradients = Gradients(self._loss_backward, self.trainable, accelerator.device, capture)

    def fit(self) -> TrainingCurves:
        """Train to the end and leave the weights with the lowest validation loss in the model.

        Raises:
            CandlecastError: a loss or a gradient is not finite, a window does not fit in memory, or the disk is full.
        """
        if not self._resume():
            self._evaluate()
        self._run_steps()
        self.state.curves.peak_memory_bytes = peak_memory(self.accelerator.device)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.module.load_state_dict(load_file(weights_file(self.work, self.state.curves.best_step)))
        self.module.eval()
        return self.state.curves

    def training_step(self, windows: np.ndarray) -> None:
        """One optimizer step from this process's part of a batch: (batch_size,) window numbers."""
        self.model.train()
        loss = self._backward(windows)
        self._average_gradients()
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.schedule.max_grad_norm)
        self.state.running.append(loss)
        if norm is not None and not torch.isfinite(norm):
            raise CandlecastError(
                f"the gradient is not finite at step {self.state.step + 1} (loss {float(loss):.4g}): lower "
                'learning_rate, or set compute.dtype = "float32"'
            )
        self.optimizer.step()
        self.lr_scheduler.step()
        self.optimizer.zero_grad(set_to_none=not self.gradients.captured)

    def _run_steps(self) -> None:
        state, schedule = self.state, self.schedule
        started, first = time.monotonic(), state.step
        while state.step < schedule.steps and not state.curves.stopped_early:
            epoch, within = divmod(state.step, schedule.steps_per_epoch)
            if within == 0 or first == state.step:
                batches = schedule.epoch(epoch)
            self.training_step(batches[within, self.accelerator.process_index])
            state.step += 1
            if state.step % LOG_EVERY == 0 or state.step == schedule.steps:
                self._log_training_loss()
            if state.step % schedule.steps_per_epoch == 0:
                self._evaluate()
            if state.step % schedule.save_every == 0 and state.step < schedule.steps:
                self.states.save(state)
        seconds = time.monotonic() - started
        if state.step > first:
            windows = (state.step - first) * schedule.batch_size * schedule.processes
            state.curves.windows_per_second = windows / seconds

    def _resume(self) -> bool:
        state = self.states.restore()
        if state is None:
            return False
        # The lower of the two: what was halved for lack of memory, or what the settings have lowered since.
        state.curves.micro_batch = min(state.curves.micro_batch, self.schedule.micro_batch)
        self.state = state
        return True

    def _backward(self, windows: np.ndarray) -> Tensor:
        """The loss, its gradients added to the weights; in smaller micro-batches where memory is short."""
        while (loss := self._try_backward(windows)) is None:
            if self.state.curves.micro_batch == 1:
                raise CandlecastError(
                    f"one window does not fit on {self.accelerator.device}: choose a smaller model, a shorter "
                    'windows.lookback_window, or compute.device = "cpu"'
                )
            self.gradients.release()
            torch.cuda.empty_cache()
            self.state.curves.micro_batch = max(1, self.state.curves.micro_batch // 2)
        return loss

    def _try_backward(self, windows: np.ndarray) -> Tensor | None:
        """The loss, its gradients added to the weights; none if any process ran out of memory."""
        try:
            loss = self._accumulate_gradients(windows)
        except torch.cuda.OutOfMemoryError:
            loss = None
        if self.accelerator.num_processes == 1:
            return loss
        out_of_memory = torch.tensor(float(loss is None), device=self.accelerator.device)
        return None if self.accelerator.reduce(out_of_memory, "sum") > 0 else loss

    def _accumulate_gradients(self, windows: np.ndarray) -> Tensor:
        """This process's own gradients, summed over micro-batches.

        The processes synchronise after this, in `_try_backward`, and never within: one that runs out of memory half
        way would leave the others waiting for it.
        """
        size = self.state.curves.micro_batch
        total = torch.zeros((), device=self.accelerator.device)
        for part in (windows[i : i + size] for i in range(0, len(windows), size)):
            total += self.gradients.add(self.task.batch(part), len(part) / len(windows))
        return total

    def _loss_backward(self, batch: tuple[Tensor, ...], factor: Tensor | float) -> Tensor:
        with self.accelerator.autocast():
            loss = self.task.loss(self.module, batch) * factor
            self.accelerator.backward(loss)
        return loss.detach()

    def _average_gradients(self) -> None:
        """Replace the gradients of each process by the mean over all processes."""
        if self.accelerator.num_processes == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.trainable]
        flat = torch.cat([gradient.flatten() for gradient in gradients]) / self.accelerator.num_processes
        torch.distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for parameter, mean in zip(self.trainable, flat.split(sizes), strict=True):
            if parameter.grad is None:
                parameter.grad = mean.view_as(parameter)
            else:  # where it is: a captured graph knows its address
                parameter.grad.copy_(mean.view_as(parameter))

    def _evaluate(self) -> None:
        state, curves = self.state, self.state.curves
        losses = self._validation_losses()
        if not math.isfinite(losses["loss"]):
            raise CandlecastError(f"the validation loss is {losses['loss']} at step {state.step}: lower learning_rate")
        is_better = losses["loss"] < curves.best_loss
        curves.validation.append({"step": state.step, **losses})
        self._report_metrics(losses)
        state.since_best = 0 if is_better else state.since_best + 1
        if is_better:
            curves.best_step = state.step
        self.states.keep_weights(self.module, state, self.keep)
        patience = self.schedule.patience
        curves.stopped_early = patience is not None and state.since_best >= patience

    def _validation_losses(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            losses = [self._validate()]
        if self.accelerator.num_processes > 1:
            # With another chunk size the last digits differ, and processes might decide differently.
            broadcast_object_list(losses)
        return losses[0]

    def _validate(self) -> dict[str, float]:
        while True:
            try:
                return self.task.validate(self.module)
            except torch.cuda.OutOfMemoryError:
                if not isinstance(self.task, ChunkedTask) or self.task.chunk == 1:
                    raise CandlecastError(
                        f"the validation windows do not fit on {self.accelerator.device}: choose a smaller model, a "
                        'shorter windows.lookback_window, or compute.device = "cpu"'
                    ) from None
            # After the handler, when the tensors of the failed attempt are released.
            torch.cuda.empty_cache()
            self.task.chunk = max(1, self.task.chunk // 2)

    def _log_training_loss(self) -> None:
        state = self.state
        loss = float(self.accelerator.reduce(torch.stack(state.running).mean(), "mean"))
        state.running.clear()
        state.curves.train.append((state.step, loss))
        note = f"loss {loss:.4f}, validation {state.curves.best_loss:.4f}"
        self.progress(state.step, self.schedule.steps, note)

    def _report_metrics(self, losses: dict[str, float]) -> None:
        metrics = {f"validation_{name}": value for name, value in losses.items()}
        if self.state.curves.train:
            metrics["train_loss"] = self.state.curves.train[-1][1]
        learning_rate = float(self.lr_scheduler.get_last_lr()[0])
        self.report_metrics({"step": self.state.step, **metrics, "learning_rate": learning_rate})
