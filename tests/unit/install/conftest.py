"""Fixtures of the tests of the installation."""

from pathlib import Path

import pytest

from tests.support.install_project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Nothing is installed, and there is no Python."""
    return Project(tmp_path)
