"""The workflows, run for real by act on this machine, against a stand-in of Kubeflow and of the registry on loopback.

The images are all in the stand-in's registry, so that none is built; the jobs' own steps are the workflow's.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_stand_in import Kfp, look
from kfp_stand_in_http import Server

from steps.common.digest import ROOT, STEPS

Push = Callable[..., subprocess.CompletedProcess[str]]
GATED = {step: "SUCCEEDED" for step in STEPS if step != "deploy"}


@pytest.fixture
def kfp() -> Iterator[tuple[Kfp, str]]:
    made = Kfp()
    with Server(made) as server:
        yield made, server.address


@pytest.fixture
def push(tmp_path: Path, kfp: tuple[Kfp, str]) -> Push:
    """Push a project with one test of its own, in this interpreter's packages: `push(passes=True)`."""
    project = tmp_path / "project"
    names = ("pipeline", "steps", "serving", ".github", "Makefile", "params.yaml", "requirements.txt", ".gitignore")
    for name in (*names, "pyproject.toml", "benchmarks"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, project / name)
    settings = yaml.safe_load((ROOT / "project.yaml").read_text())
    (project / "project.yaml").write_text(yaml.safe_dump({**settings, "registry": kfp[1]}))
    (project / "tests").mkdir()

    def run(passes: bool = True) -> subprocess.CompletedProcess[str]:
        (project / "tests/test_it.py").write_text(f'"""One."""\n\n\ndef test_it() -> None:\n    assert {passes}\n')
        identity = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        for words in (("init", "-q", "-b", "master"), ("add", "--all"), (*identity, "commit", "-q", "-m", "One")):
            subprocess.run(["git", *words], cwd=project, check=True)
        _link_environment(project / ".venv")
        command: list[Any] = [Path(sys.executable).with_name("act"), "push", "--workflows", ".github/workflows/ct.yml"]
        command += ["--use-gitignore=false", "--no-cache-server", "--concurrent-jobs", "2"]
        command += ["-P", "ubuntu-latest=-self-hosted"]
        command += ["--var", f"KFP_HOST=http://{kfp[1]}", "--secret", "KFP_TOKEN=right"]
        environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key and key != "VOLUMES"}
        environment |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        return subprocess.run(
            command, cwd=project, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    return run


def _link_environment(folder: Path) -> None:
    """This interpreter's packages, which are those of the locks, and newer than any copy of these: not to install."""
    folder.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (folder / name).symlink_to(Path(sys.prefix, name))
    installed = folder.parent.parent / "installed"
    installed.touch()
    os.utime(installed, (2**32, 2**32))
    (folder / ".installed").symlink_to(installed)


@pytest.mark.slow
def test_a_push_is_tested_and_run_and_a_rejected_model_is_green(push: Push, kfp: tuple[Kfp, str]) -> None:
    kfp[0].script = [look("RUNNING", train="RUNNING"), look("SUCCEEDED", **GATED)]
    done = push()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| REJECTED " in done.stdout
    assert len(kfp[0].runs) == 1


@pytest.mark.slow
def test_a_failed_run_is_red(push: Push, kfp: tuple[Kfp, str]) -> None:
    kfp[0].script = [look("FAILED", train="FAILED")]
    done = push()
    assert done.returncode != 0
    assert "train failed" in done.stdout
    assert len(kfp[0].runs) == 1


@pytest.mark.slow
def test_a_broken_test_submits_nothing(push: Push, kfp: tuple[Kfp, str]) -> None:
    done = push(passes=False)
    assert done.returncode != 0
    assert "assert False" in done.stdout
    assert kfp[0].asked == []
