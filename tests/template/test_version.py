"""A new project says from which version of the template it was made."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.paths import ROOT
from contract.version import VERSION

Run = Callable[..., subprocess.CompletedProcess[str]]
LINE = f"# Made from version {VERSION} of the template;"


def test_the_templates_version_is_the_one_of_the_code() -> None:
    assert json.loads((ROOT / "cookiecutter.json").read_text())["_version"] == VERSION
    assert LINE in (ROOT / "project.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_new_project_says_its_version_and_an_update_the_new_one(tool: Run, out: Path, clone: Path) -> None:
    done = tool("cruft", "create", clone, "--no-input", "--extra-context", '{"project_slug": "bird-songs"}')
    assert done.returncode == 0, done.stdout + done.stderr
    project = out / "bird-songs"
    assert LINE in (project / "project.yaml").read_text(encoding="utf-8")
    assert json.loads((project / ".cruft.json").read_text())["context"]["cookiecutter"]["_version"] == VERSION
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "-m", "One")):
        assert tool("git", *words, cwd=project).returncode == 0
    settings = clone / "cookiecutter.json"
    settings.write_text(settings.read_text().replace(f'"_version": "{VERSION}"', '"_version": "99.0.0"'))
    assert tool("git", "commit", "--quiet", "-am", "Two", cwd=clone).returncode == 0
    done = tool("cruft", "update", "--skip-apply-ask", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# Made from version 99.0.0 of the template;" in (project / "project.yaml").read_text(encoding="utf-8")
