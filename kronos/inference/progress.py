"""Progress of a forecast, and its bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int], object]
"""Called with the number of bars drawn, over all paths, after each step."""


def silent(_: int) -> None:
    """A `Progress` that reports nothing."""


@contextmanager
def undone_on_error(report: Progress) -> Iterator[Progress]:
    """A `Progress` whose reports are taken back where the block fails: what it drew is drawn again."""
    reported = 0

    def count(bars: int) -> None:
        nonlocal reported
        reported += bars
        report(bars)

    try:
        yield count
    except BaseException:
        report(-reported)
        raise


@contextmanager
def progress_bar(bars: int, verbose: bool) -> Iterator[Progress]:
    """A function to report drawn bars to; with `verbose` it moves a bar on stderr, as in the authors' package."""
    if not verbose:
        yield silent
        return
    from tqdm import tqdm

    with tqdm(total=bars, unit="bar") as bar:
        yield bar.update
