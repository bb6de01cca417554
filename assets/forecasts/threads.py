"""How many threads inference takes."""

from __future__ import annotations

from resources.settings import ComputeSettings


def use_threads(compute: ComputeSettings) -> None:
    """Torch takes `compute.threads` threads, or its own choice, one a core."""
    import torch

    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
