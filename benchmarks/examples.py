"""Checks the examples against the bounds of published weights: `python -m benchmarks.examples`.

Exit status: 0 below all bounds, 1 not below one, 3 not run, because the weights are not to be had.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from assets.examples.acceptance import BOUNDS, bound_problems
from assets.examples.forecasts import forecast_example
from resources.errors import CandlecastError
from resources.profiles import load_settings
from resources.settings import ExampleSettings, Settings

PUBLISHED = "amazon/chronos-2"
NOT_RUN = 3


def check_bounds(settings: Settings) -> int:
    """Forecast each example, print its scores beside the bounds, and return the exit status."""
    failed: list[str] = []
    for name, bounds in BOUNDS.items():
        try:
            forecast = forecast_example(name, settings)
        except CandlecastError as error:
            print(f"NOT RUN: {name}: {error}", file=sys.stderr)
            print("NOT RUN: the bounds of the examples were not checked", file=sys.stderr)
            return NOT_RUN
        scores = forecast.own_scores
        print(f"{name}, {forecast.model}")
        for metric, bound in bounds.items():
            print(f"  {metric} {scores[metric]:.4g}, bound {bound:g}")
        failed += bound_problems(name, scores)
    for problem in failed:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default=PUBLISHED, help="hub id, or a folder of the published weights")
    options = parser.parse_args(arguments)
    settings = load_settings()
    return check_bounds(settings.model_copy(update={"examples": ExampleSettings(model=options.weights)}))


if __name__ == "__main__":
    sys.exit(main())
