"""A new project's serving manifests have its own name, path and images."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.paths import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tool: Run, out: Path) -> Path:
    """A project with another name."""
    done = tool("cookiecutter", ROOT, "--no-input", "project_slug=bird-songs")
    assert done.returncode == 0, done.stderr
    return out / "bird-songs"


def test_a_new_projects_manifests_name_its_images_at_once(tool: Run, project: Path) -> None:
    done = tool("pipeline", "pin", cwd=project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # it prints the files that it changes
    for folder, image in (("torchserve", "serving"), ("torchserve/rollback", "deploy"), ("gc", "deploy")):
        text = (project / "infra" / folder / "kustomization.yaml").read_text()
        assert f"newName: localhost:5000/bird-songs-{image}\n" in text
        assert "project=bird-songs\n" in text


@pytest.mark.slow
def test_a_new_projects_manifests_pass_their_tests(project: Path) -> None:
    tests = ("tests/unit/images/test_pin.py", "tests/unit/infra")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *tests]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
