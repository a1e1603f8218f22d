"""Logging in to the registry, and two revisions' models side by side."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract.paths import ROOT
from pipeline.local.compare import table


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_without_a_login_there_is_nothing_to_do() -> None:
    done = run("login", REGISTRY_USER="", REGISTRY_PASSWORD="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no login" in done.stdout


@pytest.mark.parametrize("name", ["REGISTRY_USER", "REGISTRY_PASSWORD"])
def test_half_a_login_is_refused(name: str) -> None:
    done = run("login", **{name: "x"})
    assert done.returncode == 2
    assert "only one is set" in done.stderr


def test_a_login_without_docker_says_what_is_needed(tmp_path: Path) -> None:
    done = run("login", REGISTRY_USER="x", REGISTRY_PASSWORD="y", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "Docker is needed" in done.stderr


def test_models_stand_side_by_side() -> None:
    theirs = "accuracy      0.9800 on the test split\nworst class   a|b, 0.9000\n\nDEPLOYED 1: good\n"
    ours = "accuracy      0.9900 on the test split\nworst class   c, 0.9500\n\nDEPLOYED 2: better\n"
    assert table("master", theirs, ours).splitlines() == [
        "| | master | this |",
        "|---|---|---|",
        "| accuracy | 0.9800 on the test split | 0.9900 on the test split |",
        "| worst class | a\\|b, 0.9000 | c, 0.9500 |",
        "",
        "DEPLOYED 2: better",
    ]


def test_a_revision_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = run("compare", "--base", "no-such-branch", "--volumes", str(tmp_path))
    assert done.returncode == 2
    assert "no-such-branch" in done.stderr
    assert "Traceback" not in done.stderr
