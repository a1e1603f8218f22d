"""A project of one small test in a Git repository of its own, whose workflows act runs on this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from contract.paths import ROOT
from install.environment import locks_digest
from tests.support.settings import PARAMS_FILE, PROJECT_FILE

_PARTS = (
    "contract",
    "install",
    "pipeline",
    "steps",
    "serving",
    "benchmarks",
    "infra",
    ".github",
    "Makefile",
)
_PARTS += ("requirements.txt", "pyproject.toml", ".gitignore", ".dockerignore")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def copied(project: Path) -> Path:
    """Copy this project's files, without its tests, to a new folder."""
    for name in _PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, project / name)
    for file in (PROJECT_FILE, PARAMS_FILE):
        shutil.copy2(file, project)
    return project


def prepared(project: Path, registry: str, repository: Path | None = None, branch: str = "master") -> Path:
    """Give a project another registry, one small test and this interpreter's packages, and commit it.

    With a repository, the project is a folder of it, and its workflows move to the repository's root as
    docs/kubeflow.md says.
    """
    settings = yaml.safe_load((project / "project.yaml").read_text())
    (project / "project.yaml").write_text(yaml.safe_dump({**settings, "registry": registry}))
    shutil.rmtree(project / "tests", ignore_errors=True)
    (project / "tests").mkdir()
    put_test(project, passes=True)
    rules = project / "pyproject.toml"  # one test covers little
    rules.write_text(re.sub(r"^fail_under = .*$", "fail_under = 0", rules.read_text(), flags=re.MULTILINE))
    # The packages are those of the locks, and said to be, so that they are not installed again: act runs a copy of the
    # project, so its environments are links to folders whose names stay.
    top = repository or project
    for name in (".venv", ".venv-images"):
        environment = top.with_name(f"{top.name}{name}")
        borrow_environment(environment)
        (project / name).symlink_to(environment)
    if repository:
        (project / ".github").rename(repository / ".github")
        for workflow in (repository / ".github/workflows").iterdir():
            folder = f"working-directory: {project.relative_to(repository)}"
            workflow.write_text(workflow.read_text().replace("working-directory: .", folder))
    git(repository or project, "init", "-q", "-b", branch)
    commit(repository or project)
    return project


def borrow_environment(folder: Path) -> None:
    """Make an environment of the packages of this one that counts as installed, so that `make` changes neither."""
    folder.mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (folder / part).symlink_to(Path(sys.prefix, part))
    stamp = {"folder": str(folder.resolve()), "locks": locks_digest(), "choice": "auto", "build": "cpu"}
    (folder / "installed.json").write_text(json.dumps(stamp))
    (folder / "done").touch()
    os.utime(folder / "done", (time.time() + 86400,) * 2)  # later than the files of act's copy


def lend_types(folder: Path) -> None:
    """Copy what mypy knows of this project's files, so that it looks at those alone that differ; none is there yet.

    Without it mypy takes half a minute for the packages of a new project.
    """
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", folder, dirs_exist_ok=True)


def put_test(project: Path, *, passes: bool) -> None:
    """Give the project its only test."""
    body = f'assert str({passes}) == "True"'
    (project / "tests/test_it.py").write_text(f'"""One."""\n\n\ndef test_it() -> None:\n    {body}\n')


def commit(project: Path) -> None:
    """Commit all changes."""
    git(project, "add", "--all")
    git(project, "-c", "user.name=tests", "-c", "user.email=tests@localhost", "commit", "-q", "-m", "A change")


def git(project: Path, *words: str) -> str:
    """Run Git; returns its output."""
    return subprocess.run(["git", *words], cwd=project, check=True, capture_output=True, text=True).stdout.strip()


def act(project: Path, workflow: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a workflow by act: `act(project, "ct.yml", "push")`; its output has no colours."""
    command: list[Any] = [Path(sys.executable).with_name("act"), *words, "--workflows", f".github/workflows/{workflow}"]
    command += ["--use-gitignore=false", "--no-cache-server", "--concurrent-jobs", "2"]
    command += ["-P", "ubuntu-latest=-self-hosted"]
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key and key != "VOLUMES"}
    environment |= {"HOME": str(project.parent / "home"), "XDG_CACHE_HOME": str(project.parent / "cache")}
    with tempfile.TemporaryDirectory() as types:
        lend_types(Path(types))
        done = subprocess.run(
            command,
            cwd=project,
            env={**environment, "KUBECONFIG": os.devnull, "MYPY_CACHE_DIR": types},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    done.stdout = _COLOURS.sub("", done.stdout)
    return done


def push(project: Path, kubeflow: str | None) -> subprocess.CompletedProcess[str]:
    """Run the workflow of a push to master, with the Kubeflow at an address, or with none."""
    host = ("--var", f"KFP_HOST=http://{kubeflow}") if kubeflow else ()
    return act(project, "ct.yml", "push", *host, "--secret", "KFP_TOKEN=right")
