"""A run that is killed and started again leaves the home of an undisturbed one. `make chaos` kills fifty times."""

from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos


@pytest.mark.slow
def test_a_run_killed_three_times_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    chaos = Chaos(tmp_path, seed=1)
    assert len(chaos.expected) > 80
    kills = list(chaos.kills(3))
    assert [kill.different for kill in kills] == [()] * 3
