"""Fixtures of the template's tests: cookiecutter and cruft as a user runs them, with their own home folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.paths import ROOT
from tests.support.forked import Forked

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def repository() -> list[str]:
    """Every file that Git tracks or would add, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(name for name in set(listed.split("\0")) if name and os.path.lexists(ROOT / name))


@pytest.fixture(scope="session")
def travelling(repository: list[str]) -> list[str]:
    """The files of a new project; all others belong to the template alone."""
    own = ("cookiecutter.json", "hooks/", "{{cookiecutter.project_slug}}/", "tests/template/", ".ci/")
    return [name for name in repository if not name.startswith((*own, ".github/workflows/template.yml"))]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder for new projects; nothing may appear beside it."""
    (tmp_path / "beside" / "out").mkdir(parents=True)
    return tmp_path / "beside" / "out"


def environment(home: Path) -> dict[str, str]:
    identity = {f"GIT_{who}_{what}": "tests@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {**os.environ, **identity, "HOME": str(home), "COLUMNS": "400"}


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    home = tmp_path_factory.mktemp("home")
    with Forked(home, "cookiecutter", ("cookiecutter.cli", "cookiecutter.extensions"), environment(home)) as commands:
        yield commands


@pytest.fixture
def bake(forked: Forked, tmp_path: Path, out: Path) -> Run:
    """Run cookiecutter in `out`; `answers` may be given."""
    (tmp_path / "home").mkdir(exist_ok=True)
    return lambda *words, answers="": forked.run(
        *words, environment=environment(tmp_path / "home"), cwd=out, answers=answers
    )


@pytest.fixture
def tool(tmp_path: Path, out: Path) -> Run:
    """Run a Python tool in `out`: `tool("cookiecutter", template, "--no-input")`; `cwd` and `answers` may be given."""
    (tmp_path / "home").mkdir(exist_ok=True)

    def run(*words: str | Path, cwd: Path = out, answers: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *map(str, words)] if words[0] != "git" else [*map(str, words)]
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment(tmp_path / "home"),
            input=answers,
            text=True,
            capture_output=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory, repository: list[str]) -> Path:
    """A Git repository with the files of the working tree, committed. Read only."""
    home = tmp_path_factory.mktemp("committed-template")
    target = home / "clone"
    for name in repository:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    commit = ("-c", "gc.auto=0", "commit", "--quiet", "-m", "One")
    for words in (("init", "--quiet", "--initial-branch=master"), ("add", "--all"), commit):
        subprocess.run(["git", *words], cwd=target, env=environment(home), check=True)
    return target


@pytest.fixture
def clone(tmp_path: Path, committed: Path) -> Path:
    """The same, to be changed by a test."""
    return shutil.copytree(committed, tmp_path / "clone", symlinks=True)
