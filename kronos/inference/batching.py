"""Splitting a forecast into batches that fit the memory budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

logger = logging.getLogger(__name__)

DEFAULT_BUDGET = 2 * 2**30
CUDA_SHARE = 4
"""On a GPU the default budget is its memory over this: buffers of two captured shapes are kept, and what they leave."""
BATCH_ROWS, CUDA_BATCH_ROWS = 1024, 4096
"""Paths decoded together on the CPU and on a GPU: beyond it a wider product is no faster and needs more memory."""
MAX_PATHS = 256
"""Paths of one series decoded together on the CPU whatever the budget, as the number shows in a bar's last bits.

Measured at 400 → 24 with 1,000 paths of Kronos-mini: 2 % slower than all at once, in a quarter of the memory;
128 would be 15 % slower, as each part reads the history again.
"""

SeriesBatch = list[list[int]]
"""Series decoded together, by their index in the input; one inner list per history length."""


def default_budget(device: torch.device) -> int:
    """Bytes that a forecast allocates at once on a device beyond the weights, by default."""
    if device.type != "cuda":
        return DEFAULT_BUDGET
    total: int = torch.cuda.get_device_properties(device).total_memory
    return total // CUDA_SHARE


def split_paths(paths: int, *, bytes_of: Callable[[int], int], budget: int, max_paths: int) -> list[slice]:
    """Slices of one series' paths, each of at most `max_paths` paths and `budget` bytes, but at least one path.

    All slices but the last are equally long. `bytes_of(n)` is the memory that the series needs with n paths; it must
    be linear in n.
    """
    one, each = bytes_of(1), bytes_of(2) - bytes_of(1)
    limit = max(1, min(max_paths, 1 + (budget - one) // each))
    count = -(-paths // limit)
    size = -(-paths // count)
    return [slice(first, min(first + size, paths)) for first in range(0, paths, size)]


def split_series(
    lengths: Sequence[int],
    *,
    bytes_of: Callable[[int], int],
    paths: int,
    budget: int,
    most_rows: int = BATCH_ROWS,
) -> list[SeriesBatch]:
    """Batches of series sorted by length, of at most `budget` bytes and `most_rows` paths, but at least one series.

    `bytes_of(length)` is the memory that one series of that length needs with `paths` paths.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batches: list[SeriesBatch] = []
    used = rows = 0
    for i in order:
        needed = bytes_of(lengths[i])
        if not batches or used + needed > budget or rows + paths > most_rows:
            batches.append([])
            used = rows = 0
        if not batches[-1] or lengths[batches[-1][-1][0]] != lengths[i]:
            batches[-1].append([])
        batches[-1][-1].append(i)
        used, rows = used + needed, rows + paths
    return batches


class EncodedHistories(NamedTuple):
    """Tokens and statistics of histories of one length; `members` are the indices of their series in the input."""

    members: Sequence[int]
    mean: NDArray[np.float32]  # (series, field)
    std: NDArray[np.float32]
    s1: Tensor  # (series, length), at most max_context
    s2: Tensor
    stamps: Tensor  # (series, length + horizon, 5)
    order: Tensor | None = None  # (series, 2**s1_bits) coarse tokens in the order of the draws, where not by id

    def in_parts(self, size: int) -> list[EncodedHistories]:
        """The same histories, at most `size` per entry."""
        members, mean, std, s1, s2, stamps, order = self
        rows = [slice(i, i + size) for i in range(0, len(members), size)]
        return [
            EncodedHistories(members[r], mean[r], std[r], s1[r], s2[r], stamps[r], None if order is None else order[r])
            for r in rows
        ]


class DecodedPart(NamedTuple):
    """Some paths of some series, decoded together."""

    encoded: Sequence[EncodedHistories]
    paths: slice

    @property
    def rows(self) -> int:
        paths: int = self.paths.stop - self.paths.start
        return paths * sum(len(known.members) for known in self.encoded)

    def at_most(self, rows: int) -> list[DecodedPart]:
        """This part, or its halves if it has more rows: of the paths if there are several, else of the series."""
        first, last = self.paths.start, self.paths.stop
        if self.rows <= rows or self.rows == 1:
            return [self]
        if last - first > 1:
            middle = (first + last) // 2
            return [DecodedPart(self.encoded, slice(first, middle)), DecodedPart(self.encoded, slice(middle, last))]
        single = [one for known in self.encoded for one in known.in_parts(1)]
        middle = len(single) // 2
        return [DecodedPart(single[:middle], self.paths), DecodedPart(single[middle:], self.paths)]


def decode_within_memory(decode: Callable[[DecodedPart], None], whole: DecodedPart, device: torch.device) -> None:
    """`decode(whole)`, in halves where the device is out of memory: it may have other users than the budget's."""
    pending = [whole]
    while pending:
        current = pending.pop(0)
        try:
            decode(current)
            continue
        except torch.cuda.OutOfMemoryError:
            if current.rows == 1:
                raise
        # After the handler, when the tensors of the failed attempt are released.
        torch.cuda.empty_cache()
        logger.warning("%s is out of memory for %d paths: half as many are decoded", device, current.rows)
        pending = [half for one in (current, *pending) for half in one.at_most(current.rows - 1)]
