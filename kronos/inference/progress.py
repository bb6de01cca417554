"""Progress of a forecast, and its bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int], object]
"""Called with the number of bars drawn, over all paths, after each step."""


def silent(_: int) -> None:
    """A `Progress` that reports nothing."""


@contextmanager
def progress_bar(bars: int, verbose: bool) -> Iterator[Progress]:
    """A function to report drawn bars to; with `verbose` it moves a bar on stderr, as in the authors' package."""
    if not verbose:
        yield silent
        return
    from tqdm import tqdm

    with tqdm(total=bars, unit="bar") as bar:
        yield bar.update
