"""A finished run of the small project, which several modules read."""

import pytest

from tests.orchestration.cli_project import CliProject


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[CliProject, str]:
    """A project after `candlecast run`, and what it printed. Tests copy the home before they change it.

    Its tests are of the xdist group "pipeline", so that one process makes it.
    """
    project = CliProject(tmp_path_factory.mktemp("pipeline"))
    done = project.call("run")
    assert done.returncode == 0, done.stderr
    return project, done.stdout


@pytest.fixture
def project(finished: tuple[CliProject, str]) -> CliProject:
    """The project after the run."""
    return finished[0]
