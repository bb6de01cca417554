"""The command line of the benchmark: the table of `LINES` on stdout."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import benchmarks.orchestration
from benchmarks.orchestration.lines import HEADER, LINES, MONTHLY, Bench


def main() -> None:
    """Measure the chosen lines, and print each as soon as it is known."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.orchestration",
        description=benchmarks.orchestration.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="smaller homes, of up to 5 years and 20 symbols")
    parser.add_argument(
        "--every", type=int, default=MONTHLY, help="sessions between two origins of homes with a history"
    )
    parser.add_argument("--lines", nargs="+", choices=LINES, default=list(LINES), help="these lines alone")
    parser.add_argument("--home", type=Path, help="a finished home of your own for the line nothing_new; it is changed")
    parser.add_argument("--settings", type=Path, help="its settings file")
    given = parser.parse_args()
    if bool(given.home) != bool(given.settings):
        parser.error("--home and --settings belong together")
    with tempfile.TemporaryDirectory(prefix="candlecast-bench-") as folder:
        print(HEADER, flush=True)
        for name in given.lines:
            for line in LINES[name](Bench(Path(folder), given.quick, given.every, given.home, given.settings)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
