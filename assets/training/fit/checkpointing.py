"""Saved states of a fit in its work folder, from which a killed fit resumes to identical weights.

A state is a folder `state-<step>` with what Accelerate saves (weights, optimizer, schedule, random generators), the
kept weights, and `run.json` with the loop's own variables and a digest of the other files. It is written to the disk
before it gets its name, so a killed process leaves the state before it. Damaged states are set aside.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from assets.training.fit.curves import TrainingCurves
from resources.errors import CandlecastError
from resources.publish import digest_of_folder, publish_folder

RUN = "run.json"
logger = logging.getLogger("candlecast.training")


@dataclass
class TrainerState:
    """The variables of the training loop between two steps.

    Attributes:
        step: completed optimizer steps.
        since_best: evaluations since the best one.
        running: training losses since the last point of the training curve.
    """

    curves: TrainingCurves
    step: int = 0
    since_best: int = 0
    running: list[Tensor] = field(default_factory=list)


def weights_file(folder: Path, step: int) -> Path:
    """The file with the weights of a step, with the names that the trained module gives them."""
    return folder / f"weights-{step:08d}.safetensors"


class StateStore:
    """The states and the kept weights of one fit. Every process of a distributed fit calls each method.

    Args:
        folder: the work folder of the fit.
        warn: called with the reason when a damaged state is set aside.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, warn: Callable[[str], None]) -> None:
        self.folder, self.accelerator, self.warn = folder, accelerator, warn

    def keep_weights(self, model: nn.Module, state: TrainerState, keep: int) -> None:
        """Write the weights of this step if its evaluation is among the best `keep`, and delete those that are not."""
        before, state.curves.kept = state.curves.kept, state.curves.lowest(keep)
        if self.accelerator.is_main_process:
            if state.step in state.curves.kept:
                self._write_weights(model, state.step)
            for step in set(before) - set(state.curves.kept):
                weights_file(self.folder, step).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()

    def save(self, state: TrainerState) -> None:
        """Save a state and delete the one before it."""
        name = self.folder / f"state-{state.step:08d}"
        partial = name.with_suffix(".partial")
        # The main process saves the losses for all.
        state.running = [self.accelerator.reduce(loss, "mean") for loss in state.running]
        self.accelerator.wait_for_everyone()
        with _reporting_free_space(self.folder):
            self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        with _reporting_free_space(self.folder):
            for step in state.curves.kept:
                shutil.copy2(weights_file(self.folder, step), weights_file(partial, step))
            (partial / RUN).write_text(json.dumps(_to_dict(state) | {"digest": _digest(partial)}))
            shutil.rmtree(name, ignore_errors=True)
            publish_folder(partial, name)
        for older in self.folder.glob("state-*"):
            if older != name:
                shutil.rmtree(older, ignore_errors=True)

    def restore(self) -> TrainerState | None:
        """Load the newest undamaged state into what Accelerate prepared; none where there is no state.

        Raises:
            CandlecastError: the state belongs to another model or optimizer.
        """
        folder = self._newest()
        if folder is None:
            return None
        run = _read_run(folder)
        try:
            self.accelerator.load_state(str(folder))
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
            raise CandlecastError(
                f"the saved state {folder} does not match the model being trained: {error}. Remove it, and training "
                "starts from the beginning"
            ) from error
        running = [torch.tensor(loss, device=self.accelerator.device) for loss in run["running"]]
        state = TrainerState(TrainingCurves.from_dict(run["curves"]), run["step"], run["since_best"], running)
        if self.accelerator.is_main_process:
            for step in state.curves.kept:
                shutil.copy2(weights_file(folder, step), weights_file(self.folder, step))
        self.accelerator.wait_for_everyone()
        return state

    def _write_weights(self, model: nn.Module, step: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = weights_file(self.folder, step)
        partial = file.with_suffix(".partial")
        with _reporting_free_space(self.folder):
            save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, partial)
            partial.replace(file)

    def _newest(self) -> Path | None:
        """The newest undamaged state, the same for all processes; newer damaged ones are set aside."""
        found: list[Path | None] = [None]
        if self.accelerator.is_main_process:
            states = sorted(path for path in self.folder.glob("state-*") if not path.name.endswith(".partial"))
            while states and found[0] is None:
                state = states.pop()
                try:
                    _read_run(state)
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
        reason = f"the saved state {state} is damaged ({error}): moved to {aside.name}, training continues without it"
        logger.warning(reason)
        self.warn(reason)


def _to_dict(state: TrainerState) -> dict[str, Any]:
    return {
        "step": state.step,
        "since_best": state.since_best,
        "running": [float(loss) for loss in state.running],
        "curves": asdict(state.curves),
    }


def _read_run(folder: Path) -> dict[str, Any]:
    """The content of a state's `run.json`, after its other files were verified.

    Raises:
        OSError, ValueError, KeyError, TypeError: the state is damaged.
    """
    run: dict[str, Any] = json.loads((folder / RUN).read_text())
    if run["digest"] != _digest(folder):
        raise ValueError("its files do not match their digest")
    return run


def _digest(folder: Path) -> str:
    return digest_of_folder(folder, frozenset({RUN}))


@contextmanager
def _reporting_free_space(folder: Path) -> Iterator[None]:
    """Add the free space to write errors: torch reports a full disk as "unexpected pos 64 vs 0"."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        free = shutil.disk_usage(folder).free / 2**20
        raise CandlecastError(
            f"{folder} could not be written ({free:,.1f} MiB free): {error}. Free some space and run it again: "
            "training resumes from its last saved state; the last good checkpoint is untouched"
        ) from error
