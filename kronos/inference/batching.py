"""Splitting a forecast into pieces that fit the memory budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

DEFAULT_BUDGET = 2 * 2**30
ROWS_AT_ONCE = 1024
"""Paths decoded together: beyond this a wider product is no faster, it only needs more memory."""
PATHS_AT_ONCE = 256
"""Paths of one series decoded together on the CPU, whatever the budget, as the number shows in a bar's last bits.

Measured at 400 → 24 with 1,000 paths of Kronos-mini: 2 % slower than all at once, in a quarter of the memory;
128 would be 15 % slower, as each part reads the history again.
"""

Job = list[list[int]]
"""Series decoded together, by their place in the input; inside, one list for each length."""


def path_parts(paths: int, *, bytes_of: Callable[[int], int], room: int, most: int) -> list[slice]:
    """A series' paths in parts of at most `most` paths and, as far as single paths fit it, `room` bytes.

    All parts but the last are equal. `bytes_of` says what the series needs with so many paths; every path adds
    the same.
    """
    one, each = bytes_of(1), bytes_of(2) - bytes_of(1)
    at_once = max(1, min(most, 1 + (room - one) // each))
    count = -(-paths // at_once)
    size = -(-paths // count)
    return [slice(first, min(first + size, paths)) for first in range(0, paths, size)]


def split(lengths: Sequence[int], *, bytes_of: Callable[[int], int], paths: int, budget: int) -> list[Job]:
    """Jobs of at most `budget` bytes, as far as single series fit it, sorted by length.

    `bytes_of` says what one series of a length needs.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    jobs: list[Job] = []
    used = rows = 0
    for i in order:
        needed = bytes_of(lengths[i])
        if not jobs or used + needed > budget or rows + paths > ROWS_AT_ONCE:
            jobs.append([])
            used = rows = 0
        if not jobs[-1] or lengths[jobs[-1][-1][0]] != lengths[i]:
            jobs[-1].append([])
        jobs[-1][-1].append(i)
        used, rows = used + needed, rows + paths
    return jobs
