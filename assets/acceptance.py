"""The outcome of one acceptance check, in the form that every stage's `acceptance.py` returns.

Not here: Dagster's check results, which each stage's `checks.py` builds from an outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CheckOutcome:
    """The result of one acceptance check.

    Attributes:
        description: what was found; for a failed check also where, and what to do.
        metadata: measured numbers by name.
        severe: of a failed check, whether the command fails even if the check blocks nothing.
    """

    passed: bool
    description: str
    metadata: Mapping[str, float] = field(default_factory=dict)
    severe: bool = False
