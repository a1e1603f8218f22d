"""In a project with another name, in a folder with a space, the README's commands work; takes minutes."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.settings import load_project
from tests.support.workflow_run import borrow_environment, lend_types

Run = Callable[..., subprocess.CompletedProcess[str]]
TITLE = 'Zoë\'s {{ digits }}: "1" # 数字 🎉'


@pytest.mark.slow
def test_a_new_project_works(tool: Run, out: Path, clone: Path) -> None:
    folder = out / "a folder"
    folder.mkdir()
    done = tool("cookiecutter", clone, cwd=folder, answers=f"{TITLE}\n\nZoë\n")
    assert done.returncode == 0, done.stdout + done.stderr
    project = next(folder.iterdir())
    assert load_project(project / "project.yaml").title == TITLE
    # This interpreter has the locked packages; another installation would show nothing new.
    environment = project.with_name("environment")
    borrow_environment(environment)
    (project / ".venv").symlink_to(environment)
    lend_types(project / ".mypy_cache")

    def make(*words: str) -> str:
        environment = {key: value for key, value in os.environ.items() if not re.search("^VOLUMES$|PYTEST|^MAKE", key)}
        command = ["make", *words]
        made = subprocess.run(command, cwd=project, env=environment, text=True, capture_output=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout

    assert "\ninstall" in "\n" + make()
    make("lint")
    assert make("run").splitlines()[-1].startswith("DEPLOYED ")
    assert f"model-store/{project.name}_" in make("run")
    assert make("run").splitlines()[-1].startswith("UNCHANGED ")
    make("test")
    for words in (("init", "--quiet"), ("add", "--all"), ("config", "user.email", "tests@localhost")):
        assert tool("git", *words, cwd=project).returncode == 0
    done = tool("pre_commit", "run", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
