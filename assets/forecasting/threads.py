"""How many threads inference takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources.compute import Compute

if TYPE_CHECKING:
    from torch import nn

# Below this, waiting for the other threads costs more than they bring: 0.4M parameters on two busy cores took 0.026 s
# a series of 100 paths with one thread, and 0.1 to 0.3 s with two.
LARGE = 5_000_000


def use_threads(compute: Compute, *models: nn.Module) -> None:
    """Give torch the threads of the settings; if they name none, one for compact models and one a core for large."""
    import torch

    parameters = sum(weight.numel() for model in models for weight in model.parameters())
    if compute.settings.threads is None and parameters < LARGE:
        torch.set_num_threads(1)
    else:
        compute.use_threads()
