"""The day loop of TopkDropout compiled by numba, once per machine: the machine code is kept on disk.

https://numba.readthedocs.io/en/stable/developer/caching.html. It lies in `NUMBA_CACHE_DIR` if that is set, else beside
the source, else in the user's cache folder. Files are replaced atomically, so several processes may compile at once.
Without a folder to write in, each process compiles for itself. Damaged files are removed.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from assets.backtests import topk_kernel as kernel

# What `simulate_days` calls, directly or not.
CALLED = (
    kernel.settle,
    kernel.mark,
    kernel.trade,
    kernel.count_refused,
    kernel.choose,
    kernel.choose_candidates,
    kernel.choose_sells,
    kernel.slice_end,
    kernel.sell_chosen,
    kernel.buy,
    kernel.affordable,
)

logger = logging.getLogger(__name__)
_lock = threading.Lock()


def compiled_day_loop() -> Callable[..., None]:
    """`topk_kernel.simulate_days` as machine code that releases the GIL. The first call imports numba."""
    with _lock:
        return _load()


@functools.cache
def _load() -> Callable[..., None]:
    from numba.extending import register_jitable

    for function in CALLED:
        register_jitable(error_model="numpy")(function)
    try:
        return _compile(cache=True)
    except Exception as error:
        logger.warning(
            "The compiled backtest could not be read from disk or kept there: %s. This process compiles it for itself. "
            "If that repeats, set NUMBA_CACHE_DIR to a writable folder.",
            error,
        )
        _remove_files()
        return _compile(cache=False)


def _remove_files() -> None:
    """Remove what is kept on disk: a failed write may leave a new index beside the machine code of an older source."""
    from numba import njit

    with suppress(OSError, RuntimeError):
        folder = njit(cache=True)(kernel.simulate_days).stats.cache_path
        pattern = f"{Path(kernel.__file__).stem}.{kernel.simulate_days.__name__}-*"
        for file in Path(folder).glob(pattern) if folder else ():
            file.unlink(missing_ok=True)


def _compile(cache: bool) -> Callable[..., None]:
    from numba import njit

    compiled: Callable[..., None] = njit(_signature(), cache=cache, nogil=True, error_model="numpy")(
        kernel.simulate_days
    )
    return compiled


def _signature() -> Any:
    """The types of the arguments of `simulate_days`: compiled for these alone, and so before the first call."""
    from numba import types

    def array(kind: Any, dimensions: int) -> Any:
        return types.Array(kind, dimensions, "C")

    flag, flags, symbols = array(types.boolean, 1), array(types.boolean, 2), array(types.int64, 1)
    numbers, number, codes = array(types.float64, 2), array(types.float64, 1), array(types.int8, 2)
    fields = {
        kernel.Rules: [*[types.int64] * 3, types.boolean, *[types.float64] * 4],
        kernel.Ranking: [array(types.int64, 2), symbols, flags],
        kernel.Sessions: [numbers, numbers, flags, codes, flags, flags, flag],
        kernel.Portfolio: [number, symbols, symbols, number, number, symbols],
        kernel.Choice: [flag, flag, array(types.int8, 1), flag, symbols],
    }
    tuples = [types.NamedTuple(kinds, name) for name, kinds in fields.items()]
    return types.void(types.float64, *tuples, numbers, array(types.int64, 2))
