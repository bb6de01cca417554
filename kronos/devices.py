"""The device of a model, and the number of threads that small models run with on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from kronos.errors import InputError

SMALL = 5_000_000
"""Below it, synchronising threads costs more than they gain: a pair of 0.4M parameters took 10.3 s with two threads on
two busy cores, and 0.75 s with one."""


def resolve_device(device: str | torch.device | None) -> torch.device:
    """None and "auto" mean CUDA if available, else the CPU. Raises InputError for a device that cannot be used."""
    if device is None or str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()  # the meta device has no values
    except (RuntimeError, AssertionError, TypeError) as error:  # a build without CUDA raises an AssertionError
        raise InputError(
            f"device={str(device)!r} cannot be used here; available are {', '.join(available_devices())}, and None for "
            "the fastest of them"
        ) from error
    return found


def available_devices() -> list[str]:
    """The devices of this machine that this build of torch can use."""
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def out_of_memory_cause(error: RuntimeError) -> torch.cuda.OutOfMemoryError | None:
    """The lack of memory that an error of a CUDA graph's capture stands for, if it does.

    The end of a capture may fail, too, where its content has failed; the first failure is then the context.
    """
    for cause in (error, error.__context__):
        if isinstance(cause, torch.cuda.OutOfMemoryError):
            return cause
    return None


@contextmanager
def suitable_threads(device: torch.device, threads: int | None, *models: nn.Module) -> Iterator[None]:
    """Run torch with `threads` threads on the CPU, and restore their number afterwards.

    None: one for models with fewer than SMALL parameters together, else torch's own setting.
    """
    before = torch.get_num_threads()
    if threads is None:
        small = sum(weight.numel() for one in models for weight in one.parameters()) < SMALL
        threads = 1 if small else before
    if device.type != "cpu" or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
