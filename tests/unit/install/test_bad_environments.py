"""Where nothing can be installed: one sentence that says what to do, and the status of wrong input."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from contract.paths import ROOT
from install import pythons
from tests.support.install_project import Project


def refused(project: Project, *words: str, **environment: str) -> str:
    """The sentence; make's own line after it is make's."""
    done = project.make(*words, **environment)
    assert done.returncode == 2, done.stderr
    sentence, *rest = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert (rest, done.stdout) == ([], "")
    return sentence


def test_no_python_at_all(project: Project) -> None:
    assert refused(project) == f"there is no Python here that runs; {pythons.NEED}"


def test_the_makefile_says_what_the_installation_says() -> None:
    assert re.findall(r"^NEED = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE) == [pythons.NEED]
    assert pythons.KNOWN == ("3.13", "3.12", "3.11")


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"version": "2.7"}, "is Python 2.7, which is too old; Python 3.11 to 3.13 is needed: on Debian"),
        ({"version": "3.8"}, "is Python 3.8, which is too old; Python 3.11 to 3.13 is needed: on Debian"),
        ({"version": "3.14"}, "is Python 3.14, which is too new; Python 3.11 to 3.13 is needed: on Debian"),
        ({"ensurepip": False}, "keep what it needs in the package python3.12-venv: apt install python3.12-venv"),
        ({"implementation": "PyPy"}, "is PyPy, which torch has no build for; ordinary Python 3.11 to 3.13"),
        ({"version": "3.13", "threaded": True}, "is free-threaded Python, which torch has no build for"),
        ({"musl": True}, "is of Linux on x86_64 (64 bits, musl), which torch has no build for: take Linux with glibc"),
        ({"bits": 32, "machine": "i686"}, "is of Linux on i686 (32 bits), which torch has no build for"),
        ({"machine": "riscv64"}, "is of Linux on riscv64 (64 bits), which torch has no build for"),
        ({"system": "Darwin"}, "is of Darwin on x86_64 (64 bits), which torch has no build for"),
    ],
)
def test_a_python_that_will_not_do(project: Project, facts: dict[str, Any], sentence: str) -> None:
    path = project.python("python3", **facts)
    said = refused(project)
    assert said.startswith(f"{path} ")
    assert sentence in said
    assert not (project.folder / ".venv").exists()


def test_a_python_that_is_not_there_is_not_replaced_by_another(project: Project) -> None:
    project.python("python3")
    assert refused(project, "PYTHON=python3.11") == f"PYTHON: there is no python3.11 here; {pythons.NEED}"
    project.python("python3.11", runs=False)  # as a shim of pyenv for a version that is not chosen
    assert refused(project, "PYTHON=python3.11") == f"PYTHON: python3.11 does not run; {pythons.NEED}"
    project.python("python3.8", version="3.8")
    assert refused(project, PYTHON="python3.8").startswith("python3.8 is Python 3.8, which is too old; ")


@pytest.mark.parametrize("torch", ["gpu", "CPU", "rocm"])
def test_another_torch_than_there_is(project: Project, torch: str) -> None:
    project.python("python3")
    assert refused(project, f"TORCH={torch}") == f"TORCH: is '{torch}'; it must be auto, cpu or cuda"


def test_a_setting_of_pip_that_leads_elsewhere(project: Project) -> None:
    project.python("python3", pip={"global.target": "/elsewhere"})
    said = project.make().stderr.splitlines()
    assert "pip's setting target is /elsewhere, so packages would not go into .venv: take it out" in said[-2]


def test_a_folder_that_no_virtual_environment_can_have(tmp_path: Path) -> None:
    project = Project(tmp_path, name="a:b")
    project.python("python3")
    assert (
        "a:b has a ':' in its name, which no virtual environment can have: move or rename it"
        in (project.make().stderr.splitlines()[-2])
    )


def test_a_disk_without_room(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from install import environment
    from install.errors import InstallError

    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**9}))
    with pytest.raises(InstallError, match=r"has 1\.0 GB left and 7\.0 GB are needed to install: make room"):
        environment.check_space("cuda")


def test_a_folder_of_somebody_else(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from install import environment
    from install.errors import InstallError

    monkeypatch.setattr(environment.os, "access", lambda *_: False)
    with pytest.raises(InstallError, match=r"cannot be written by .*: give it to yourself"):
        environment.make(pythons.Python("python3", "3.12"))


def test_an_index_that_does_not_answer_is_named_and_the_next_call_goes_on(project: Project) -> None:
    project.python("python3", fails=("-m uv", "--no-deps -r"))
    done = project.make()
    assert done.returncode == 2
    sentence = done.stderr.splitlines()[-2]
    assert sentence.startswith("not installed: torch, 0.2 GB to fetch (--no-deps -r fails here): see that the package")
    assert "folder" not in project.stamp
    project.mend()
    assert project.make().returncode == 0
    assert project.stamp["folder"] == str(project.folder / ".venv")


@pytest.mark.parametrize("path", sorted((ROOT / "install").glob("*.py")), ids=lambda path: path.stem)
def test_an_old_python_can_read_the_installation(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 6))
