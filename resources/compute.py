"""The compute resource: device, threads and free memory for training and inference.

torch is imported with the first use, not with this module.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from resources.child_process import CHILD_VARIABLE
from resources.companion import COMPANION
from resources.errors import CandlecastError
from resources.locks import claim_lock
from resources.settings import ComputeSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

# AdamW in float32: the weight, its gradient and two moments.
BYTES_PER_TRAINED_WEIGHT = 16
HEADROOM = 0.9
# Of float32.
BYTES_PER_WEIGHT = 4
# Below this, synchronising threads costs more than they gain: a model of 0.4M parameters on two busy cores took 0.026 s
# per series of 100 paths with one thread, and 0.1 to 0.3 s with two.
LARGE = 5_000_000


@dataclass(frozen=True)
class Compute:
    """The device of the settings, shared by training and forecasting.

    Assets that use it have `pool="gpu"`, so that one device runs one of them at a time. On a machine with several
    devices, raise the limit of the pool to their number (`dagster instance concurrency set gpu 2`): with "auto" or
    "cuda" each process claims a device that no other candlecast process uses.
    """

    settings: ComputeSettings = field(default_factory=ComputeSettings)

    def device(self) -> torch.device:
        """The device to run on.

        Raises:
            CandlecastError: this machine does not have the device of the settings.
        """
        import torch

        return torch.device(self.device_name())

    def device_name(self) -> str:
        """The name of the device to run on, such as "cpu" or "cuda:0"; torch is imported where it may not be "cpu".

        Raises:
            CandlecastError: as `device`.
        """
        wanted = self.settings.device
        if self._is_cpu():
            return "cpu"
        import torch

        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        if wanted.startswith("cuda"):
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            named = wanted.partition(":")[2]
            number = int(named) if named else shared_device(count)
            wanted = f"cuda:{number}"
            if number >= count:
                raise CandlecastError(
                    f'compute.device = "{wanted}", but this machine has {count} CUDA device(s): '
                    'set "auto" or "cpu", or install a CUDA build of torch'
                )
        if wanted == "mps" and not torch.backends.mps.is_available():
            raise CandlecastError('compute.device = "mps", but this machine has no Metal device: set "auto" or "cpu"')
        return wanted

    def _is_cpu(self) -> bool:
        """Whether the device is the CPU; torch is not asked, so False may be wrong."""
        return self.settings.device == "cpu" or (self.settings.device == "auto" and not _may_have_accelerator())

    def use_threads(self, *models: nn.Module) -> int:
        """Set the number of torch threads for these models and return it.

        That of the settings. Default: one thread for models with fewer than LARGE parameters in total, else one per
        core.
        """
        import torch

        threads = self._threads(sum(weight.numel() for one in models for weight in one.parameters()))
        torch.set_num_threads(threads)
        return threads

    def one_thread(self, *folders: Path) -> bool:
        """Whether `use_threads` gives the models of these folders of float32 weights one thread."""
        size = sum((folder / "model.safetensors").stat().st_size for folder in folders)
        return self._threads(size // BYTES_PER_WEIGHT) == 1

    def _threads(self, weights: int) -> int:
        return self.settings.threads or (1 if 0 < weights < LARGE else available_cores())

    def workers(self) -> int:
        """The number of processes that forecast with models of one thread each: that of the settings.

        Default: one per core of the CPU, one on other devices.
        """
        if self.settings.workers:
            return self.settings.workers
        return available_cores() if self.device_name() == "cpu" else 1

    def uses_companion(self, *folders: Path) -> bool:
        """Whether the models of these folders forecast in the companion (resources.companion).

        They do where they take one thread on the CPU, the settings and the cores allow a second process, and this one
        has not paid for the import of torch already.
        """
        if "torch" in sys.modules and COMPANION.worker is None:
            return False
        return self._is_cpu() and self.workers() > 1 and self.one_thread(*folders)

    def require_memory(self, needed: int, what: str) -> None:
        """Check that `needed` bytes are free on the device.

        Raises:
            CandlecastError: they are not.
        """
        free = self.free_memory()
        if needed > free * HEADROOM:
            raise CandlecastError(
                f"{what} needs about {needed / 2**30:.1f} GiB, {self.device()} has {free / 2**30:.1f} GiB free: "
                "lower batch_size or set micro_batch, use a smaller model, or stop other programs on the device"
            )

    def free_memory(self) -> int:
        """Free memory of the device, in bytes."""
        import psutil

        device = self.device_name()
        if device.startswith("cuda"):
            import torch

            return int(torch.cuda.mem_get_info(torch.device(device))[0])
        return int(psutil.virtual_memory().available)


def _may_have_accelerator() -> bool:
    """Whether torch must be asked for a device: the machine has a driver of one, or is not known to have none."""
    if sys.platform != "linux" or Path("/dev/kfd").exists():  # AMD's driver
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


# The device that this process has claimed, per folder of lock files.
_claims: dict[Path, int] = {}


def shared_device(count: int, folder: Path | None = None) -> int:
    """The index of the CUDA device for this process: a training worker's local rank, else the first unclaimed device.

    A claim lasts until the process ends. If all devices are claimed, device 0 is shared.

    Args:
        count: CUDA devices of this machine.
        folder: folder of the lock files; None: a folder of the user under the temporary folder.
    """
    # Not in another process, which may have inherited the variable from a job scheduler.
    if CHILD_VARIABLE in os.environ and "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    folder = folder or Path(gettempdir()) / f"candlecast-devices-{getuser()}"
    if folder in _claims:
        return _claims[folder]
    if count < 2:
        return 0
    for number in range(count):
        if claim_lock(folder / f"cuda-{number}"):
            _claims[folder] = number
            return number
    return 0


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def training_memory(parameters: int, windows: int, length: int, width: int, layers: int) -> int:
    """Estimated memory of a training step in bytes: weights with gradients and moments, and activations.

    Per token and block, 16 float32 vectors of `width` are kept: norms, projections, attention and feed-forward.
    """
    activations = windows * length * width * (16 * layers + 8) * 4
    return parameters * BYTES_PER_TRAINED_WEIGHT + activations


def versions_used() -> dict[str, Any]:
    """Versions of the packages that affect results, for model cards."""
    from importlib.metadata import version

    names = ("torch", "accelerate", "numpy", "transformers", "chronos-forecasting", "safetensors")
    return {name: version(name) for name in names}
